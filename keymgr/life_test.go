package keymgr

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/meta/kv"
)

const day = 24 * time.Hour

// TestDeletion: a key is gone when its window is over and not before, with everything that was its own, and nothing else.
func TestDeletion(t *testing.T) {
	s := newSubject(t)
	f, ctx := s.f, t.Context()
	if _, err := f.RotateKeyOnDemand(ctx, me, s.md.KeyID); err != nil {
		t.Fatal(err)
	}
	if err := f.TagResource(ctx, me, s.md.KeyID, []Tag{{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.EnableKeyRotation(ctx, me, s.md.KeyID, 90); err != nil {
		t.Fatal(err)
	}
	volume := blockcrypt.VolumeID{9}
	if err := f.PutVolume(ctx, me, VolumeRecord{ID: volume, CMK: s.md.ARN}); err != nil {
		t.Fatal(err)
	}
	out, err := f.ScheduleKeyDeletion(ctx, me, s.md.ARN, 7)
	if err != nil || out.KeyID != s.md.ARN || out.Days != 7 || !out.DeletionDate.Equal(f.now().Add(7*day)) {
		t.Fatalf("%+v %v", out, err)
	}
	if u := f.tape.last(1)[0]; u.Decision != Allow || !strings.Contains(u.Detail, volume.String()) {
		t.Errorf("the record does not name the dependent volume: %+v", u)
	}
	f.pass(t, 7*day-time.Minute)
	if md, err := f.DescribeKey(ctx, me, s.md.KeyID); err != nil || md.State != StatePendingDeletion || !md.DeletionDate.Equal(out.DeletionDate) || md.DeletionSuspended {
		t.Fatalf("a minute before: %+v %v", md, err)
	}
	f.pass(t, time.Minute)
	if u := f.tape.last(1)[0]; u.Operation != "DeleteKey" || u.Key != s.md.ARN || !strings.Contains(u.Detail, volume.String()) {
		t.Errorf("recorded %+v", u)
	}
	for _, name := range []string{s.md.KeyID, s.md.ARN, "alias/x"} {
		if _, err := f.DescribeKey(ctx, me, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s after its window: %v", name, err)
		}
	}
	if _, err := f.Decrypt(ctx, me, DecryptInput{Blob: s.blob}); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("its blob: %v", err)
	}
	if len(f.token.keys) != 1 {
		t.Errorf("%d backing keys are left, want that of the other key", len(f.token.keys))
	}
	if _, err := f.Decrypt(ctx, me, DecryptInput{Blob: s.otherBlob}); err != nil {
		t.Errorf("the other key: %v", err)
	}
	rows := 0
	_, hi := kindRange('z')
	if err := f.store.View(ctx, func(r kv.Reader) error {
		return r.Scan(ctx, []byte{1}, hi, 0, func(k, _ []byte) bool { rows++; return true })
	}); err != nil || rows != 7 { // info, generation; key, material, uses, alias of the other; volume
		t.Errorf("%d rows, %v", rows, err)
	}
	if err := f.CreateAlias(ctx, me, "alias/x", s.other.KeyID); err != nil {
		t.Errorf("the alias is not free again: %v", err)
	}
}

// TestDeletionInterrupted: the token fails at the destruction; the next observation finishes it.
func TestDeletionInterrupted(t *testing.T) {
	s := newSubject(t)
	s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
	s.f.pass(t, 7*day-30*time.Minute)
	s.f.token.failWith(func(op string) error {
		if op == "destroy" {
			return hsm.ErrTokenAway
		}
		return nil
	})
	s.f.clock.advance(30*time.Minute, 30*time.Minute)
	if err := s.f.Observe(t.Context(), me); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("token away: %v", err)
	}
	if _, err := s.f.CancelKeyDeletion(t.Context(), me, s.md.KeyID); !errors.Is(err, ErrNotFound) {
		t.Errorf("cancelled after the deletion began: %v", err)
	}
	s.f.token.failWith(nil)
	s.f.reopen(t)
	if err := s.f.Observe(t.Context(), me); err != nil || len(s.f.token.keys) != 1 {
		t.Errorf("%d backing keys, %v", len(s.f.token.keys), err)
	}
	if err := s.f.Observe(t.Context(), me); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestClockJumps: a clock that is set, a machine that slept, and a key manager that did not run delete nothing.
func TestClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		wall, elapsed time.Duration
		restart       bool
		suspends      bool
	}{
		"set forward":        {31 * day, time.Minute, false, true},
		"set back":           {-2 * time.Hour, time.Minute, false, true},
		"slept":              {8 * time.Hour, 0, false, true},
		"not observed":       {3 * time.Hour, 3 * time.Hour, false, true},
		"not running":        {31 * day, 0, true, false},
		"a little":           {50 * time.Minute, time.Minute, false, false},
		"monotonic backward": {0, -time.Minute, false, true},
	} {
		s := newSubject(t)
		f := s.f
		s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
		f.pass(t, day)
		f.clock.advance(c.wall, c.elapsed)
		if c.restart {
			f.reopen(t)
		}
		if err := f.Observe(t.Context(), me); err != nil {
			t.Fatal(err)
		}
		u := f.tape.last(1)[0]
		md, err := f.DescribeKey(t.Context(), me, s.md.KeyID)
		if err != nil || md.State != StatePendingDeletion || md.DeletionSuspended != c.suspends {
			t.Errorf("%s: %+v %v", name, md, err)
			continue
		}
		if (u.Operation == "SuspendKeyDeletion") != c.suspends {
			t.Errorf("%s: recorded %+v", name, u)
		}
		f.pass(t, 10*day)
		_, err = f.DescribeKey(t.Context(), me, s.md.KeyID)
		if c.suspends != (err == nil) {
			t.Errorf("%s: ten days later: %v", name, err)
		}
		if !c.suspends {
			continue
		}
		if err := f.ConfirmKeyDeletion(t.Context(), me, s.md.KeyID); err != nil {
			t.Fatal(err)
		}
		f.pass(t, 6*day-time.Hour)
		if md, err := f.DescribeKey(t.Context(), me, s.md.KeyID); err != nil || md.DeletionSuspended {
			t.Errorf("%s: confirmed, an hour before: %+v %v", name, md, err)
		}
		f.pass(t, time.Hour)
		if _, err := f.DescribeKey(t.Context(), me, s.md.KeyID); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: confirmed, afterwards: %v", name, err)
		}
	}
}

// TestCancelDeletion: the key comes back disabled, and a new window is a whole one.
func TestCancelDeletion(t *testing.T) {
	s := newSubject(t)
	s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
	s.f.pass(t, 6*day)
	if arn, err := s.f.CancelKeyDeletion(t.Context(), me, s.md.KeyID); err != nil || arn != s.md.ARN {
		t.Fatal(arn, err)
	}
	s.f.pass(t, 2*day)
	if err := s.f.EnableKey(t.Context(), me, s.md.KeyID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.f.Decrypt(t.Context(), me, DecryptInput{Blob: s.blob}); err != nil {
		t.Error(err)
	}
	s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
	s.f.pass(t, 6*day)
	if _, err := s.f.DescribeKey(t.Context(), me, s.md.KeyID); err != nil {
		t.Error(err)
	}
	for _, window := range []int{-1, 1, 6, 31} {
		if _, err := s.f.ScheduleKeyDeletion(t.Context(), me, s.other.KeyID, window); !errors.Is(err, ErrValidation) {
			t.Errorf("window of %d days: %v", window, err)
		}
	}
}

func TestRotationByPeriod(t *testing.T) {
	s := newSubject(t)
	f, ctx := s.f, t.Context()
	status := func() RotationStatus {
		t.Helper()
		st, err := f.GetKeyRotationStatus(ctx, me, s.md.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	versions := func() int {
		t.Helper()
		md, err := f.DescribeKey(ctx, me, s.md.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		return len(md.Versions)
	}
	if got := status(); got != (RotationStatus{KeyID: s.md.KeyID}) {
		t.Errorf("before: %+v", got)
	}
	for _, period := range []int{-1, 89, 2561} {
		if err := f.EnableKeyRotation(ctx, me, s.md.KeyID, period); !errors.Is(err, ErrValidation) {
			t.Errorf("period of %d days: %v", period, err)
		}
	}
	if err := f.EnableKeyRotation(ctx, me, s.md.KeyID, 0); err != nil || status().Days != 365 {
		t.Errorf("default: %+v %v", status(), err)
	}
	if err := f.EnableKeyRotation(ctx, me, s.md.KeyID, 90); err != nil || !status().Next.Equal(f.now().Add(90*day)) {
		t.Errorf("90 days: %+v %v", status(), err)
	}
	f.pass(t, 90*day-time.Hour)
	if err := f.EnableKeyRotation(ctx, me, s.md.KeyID, 0); err != nil || status().Days != 90 || versions() != 1 {
		t.Errorf("enabled again: %+v %v", status(), err)
	}
	if _, err := f.RotateKeyOnDemand(ctx, me, s.md.KeyID); err != nil {
		t.Fatal(err)
	}
	f.pass(t, time.Hour)
	if versions() != 3 || !status().Next.Equal(f.now().Add(90*day)) {
		t.Errorf("%d versions, next %v", versions(), status().Next)
	}
	if err := f.DisableKey(ctx, me, s.md.KeyID); err != nil {
		t.Fatal(err)
	}
	f.pass(t, 91*day)
	if versions() != 3 {
		t.Error("a disabled key was rotated")
	}
	if err := f.EnableKey(ctx, me, s.md.KeyID); err != nil || versions() != 4 {
		t.Errorf("overdue when enabled: %d versions, %v", versions(), err)
	}
	s.f.setStateTo(t, s.md.KeyID, StatePendingDeletion)
	if status().Enabled {
		t.Error("rotation shows while deletion is pending")
	}
	if _, err := f.CancelKeyDeletion(ctx, me, s.md.KeyID); err != nil || !status().Enabled {
		t.Errorf("after the cancellation: %+v %v", status(), err)
	}
	if err := f.EnableKey(ctx, me, s.md.KeyID); err != nil {
		t.Fatal(err)
	}
	if err := f.DisableKeyRotation(ctx, me, s.md.KeyID); err != nil || status().Enabled {
		t.Errorf("disabled: %+v %v", status(), err)
	}
	f.pass(t, 100*day)
	if versions() != 4 {
		t.Errorf("rotated after that: %d versions", versions())
	}
	if out, err := f.Decrypt(ctx, me, DecryptInput{Blob: s.blob}); err != nil || out.Version != 1 {
		t.Errorf("the first blob: %+v %v", out, err)
	}
	checkRotationList(t, s)
}

func checkRotationList(t *testing.T, s subject) {
	t.Helper()
	var types []string
	for page := (Page{Limit: 1}); ; {
		list, err := s.f.ListKeyRotations(t.Context(), me, s.md.KeyID, true, page)
		if err != nil || len(list.Rotations) != 1 || list.KeyID != s.md.KeyID {
			t.Fatalf("%+v %v", list, err)
		}
		r := list.Rotations[0]
		types = append(types, fmt.Sprint(r.Type, r.Current, r.Date.IsZero()))
		if page.Marker = list.NextMarker; page.Marker == "" {
			break
		}
	}
	if want := []string{"false true", "ON_DEMANDfalse false", "AUTOMATICfalse false", "AUTOMATICtrue false"}; !reflect.DeepEqual(types, want) {
		t.Errorf("rotations %q, want %q", types, want)
	}
	if list, err := s.f.ListKeyRotations(t.Context(), me, s.md.KeyID, false, Page{}); err != nil || len(list.Rotations) != 3 {
		t.Errorf("without the first material: %+v %v", list, err)
	}
	if _, err := s.f.ListKeyRotations(t.Context(), me, s.md.KeyID, true, Page{Marker: "zz"}); !errors.Is(err, ErrInvalidMarker) {
		t.Errorf("bad marker: %v", err)
	}
}

func TestRotationLimits(t *testing.T) {
	for _, aws := range []bool{true, false} {
		f := newFixture(t)
		f.cfg.AWSLimits = aws
		f.reopen(t)
		md := f.newKey(t, "")
		limit := map[bool]int{true: onDemandInAWS, false: MaxVersions - 1}[aws]
		for i := range limit {
			if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); err != nil {
				t.Fatalf("rotation %d: %v", i+1, err)
			}
		}
		if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); !errors.Is(err, ErrLimit) || len(f.token.keys) != limit+1 {
			t.Errorf("rotation %d: %v; %d backing keys", limit+1, err, len(f.token.keys))
		}
	}
}

func TestTags(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	md, err := f.CreateKey(ctx, me, CreateKeyInput{Tags: []Tag{{"b", "1"}, {"a", ""}}})
	if err != nil {
		t.Fatal(err)
	}
	tags := func(page Page) TagList {
		t.Helper()
		list, err := f.ListResourceTags(ctx, me, md.KeyID, page)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := tags(Page{}); !reflect.DeepEqual(got.Tags, []Tag{{"a", ""}, {"b", "1"}}) || got.NextMarker != "" {
		t.Errorf("%+v", got)
	}
	first := tags(Page{Limit: 1})
	if rest := tags(Page{Limit: 1, Marker: first.NextMarker}); len(first.Tags) != 1 || len(rest.Tags) != 1 || rest.Tags[0].Key != "b" || rest.NextMarker != "" {
		t.Errorf("%+v %+v", first, rest)
	}
	if err := f.TagResource(ctx, me, md.KeyID, []Tag{{"B", "x y"}, {"b", "2"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.UntagResource(ctx, me, md.KeyID, []string{"a", "none"}); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if got := tags(Page{}); !reflect.DeepEqual(got.Tags, []Tag{{"B", "x y"}, {"b", "2"}}) {
		t.Errorf("%+v", got)
	}
	var many, more []Tag
	for i := range MaxTags {
		many = append(many, Tag{fmt.Sprintf("%0128d", i), strings.Repeat("ü", MaxTagValue)})
	}
	more = append(more, many...)
	more = append(more, Tag{"one more", ""})
	for name, c := range map[string]struct {
		tags  []Tag
		class error
		text  string
	}{
		"duplicate":  {[]Tag{{"a", ""}, {"a", ""}}, ErrTag, "Duplicate tag keys"},
		"reserved":   {[]Tag{{"AwS:x", ""}}, ErrTag, "Tags beginning with aws: are reserved"},
		"too many":   {more, ErrTag, "Too many tags"},
		"two more":   {many, ErrTag, "Too many tags"},
		"no key":     {[]Tag{{"", ""}}, ErrValidation, "1 validation error detected: Value '' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long key":   {[]Tag{{"a", ""}, {strings.Repeat("k", 129), ""}}, ErrValidation, "1 validation error detected: Value at 'tags.2.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"},
		"long value": {[]Tag{{"a", strings.Repeat("k", 257)}}, ErrValidation, "1 validation error detected: Value at 'tags.1.member.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256"},
		"character":  {[]Tag{{"a<", ""}}, ErrTag, "Value at 'tags.1.member.tagKey' holds a character that tags cannot have"},
	} {
		if err := f.TagResource(ctx, me, md.KeyID, c.tags); !errors.Is(err, c.class) || Message(err) != c.text {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.CreateKey(ctx, me, CreateKeyInput{Tags: more}); !errors.Is(err, ErrTag) {
		t.Errorf("created with too many: %v", err)
	}
	if err := f.UntagResource(ctx, me, md.KeyID, []string{"b", "B"}); err != nil {
		t.Fatal(err)
	}
	if err := f.TagResource(ctx, me, md.KeyID, many); err != nil || len(tags(Page{}).Tags) != MaxTags {
		t.Errorf("as many as there may be: %v", err)
	}
}

// TestLargestRow: a key with everything that it may have is stored.
func TestLargestRow(t *testing.T) {
	f := newFixture(t)
	md, err := f.CreateKey(t.Context(), me, CreateKeyInput{Description: strings.Repeat("<", MaxDescription)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxAliases {
		if err := f.CreateAlias(t.Context(), me, fmt.Sprintf("alias/%0250d", i), md.KeyID); err != nil {
			t.Fatal(err)
		}
	}
	for range MaxVersions - 1 {
		if _, err := f.RotateKeyOnDemand(t.Context(), me, md.KeyID); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.EnableKeyRotation(t.Context(), me, md.KeyID, 90); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ScheduleKeyDeletion(t.Context(), me, md.KeyID, 30); err != nil {
		t.Fatal(err)
	}
	id, _ := parseKeyUUID(md.KeyID)
	err = f.store.View(t.Context(), func(r kv.Reader) error {
		values, err := r.Get(t.Context(), key(rowKey, id[:]))
		if err == nil && len(values[0]) > 127<<10 {
			t.Errorf("%d bytes, want no more than the tables take", len(values[0]))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
