package server

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
)

// TestKeyLifeOverTheSocket calls each operation on the life of keys and looks at what comes back.
func TestKeyLifeOverTheSocket(t *testing.T) {
	dir := newKeyStore(t, false)
	b := defaultBounds
	b.observe = 5 * time.Millisecond
	serve(t, RunConfig{Dir: dir, bounds: &b})
	c := dial(t, dir, client.Options{})
	ctx := t.Context()
	tags := []keymgr.Tag{{Key: "a", Value: "b"}, {Key: "ü", Value: ""}}
	md, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{Alias: "alias/a", Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.CreateKey(ctx, self, keymgr.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.ListResourceTags(ctx, self, md.KeyID, keymgr.Page{}); err != nil || !reflect.DeepEqual(list.Tags, tags) {
		t.Errorf("%+v %v", list, err)
	}
	if err := errors.Join(c.TagResource(ctx, self, md.KeyID, tags[:1]), c.UntagResource(ctx, self, md.KeyID, []string{"a"}),
		c.UpdateKeyDescription(ctx, self, md.KeyID, "other"), c.UpdateAlias(ctx, self, "alias/a", other.KeyID),
		c.EnableKeyRotation(ctx, self, md.KeyID, 100), c.RotateKeyOnDemand(ctx, self, md.KeyID)); err != nil {
		t.Fatal(err)
	}
	if st, err := c.GetKeyRotationStatus(ctx, self, md.KeyID); err != nil || !st.Enabled || st.Days != 100 || time.Until(st.Next) < 99*24*time.Hour {
		t.Errorf("%+v %v", st, err)
	}
	if list, err := c.ListKeyRotations(ctx, self, md.KeyID, true, keymgr.Page{}); err != nil || len(list.Rotations) != 2 || list.Rotations[0].Current ||
		!list.Rotations[1].Current || list.Rotations[1].Type != keymgr.RotationOnDemand || list.Rotations[1].Date.IsZero() || list.KeyID != md.KeyID {
		t.Errorf("%+v %v", list, err)
	}
	if err := c.DisableKeyRotation(ctx, self, md.KeyID); err != nil {
		t.Error(err)
	}
	out, err := c.ScheduleKeyDeletion(ctx, self, md.KeyID, 8)
	if err != nil || out.KeyID != md.ARN || out.Days != 8 || time.Until(out.DeletionDate).Round(time.Hour) != 8*24*time.Hour {
		t.Errorf("%+v %v", out, err)
	}
	if err := c.ConfirmKeyDeletion(ctx, self, md.KeyID); err != nil {
		t.Error(err)
	}
	got, err := c.DescribeKey(ctx, self, md.KeyID)
	if err != nil || got.State != keymgr.StatePendingDeletion || got.DeletionDate.IsZero() || got.DeletionSuspended || got.Description != "other" || len(got.Aliases) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; { // the daemon observes: the date stays where it is to the second, but is written anew
		now, err := c.DescribeKey(ctx, self, md.KeyID)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the deletion is not observed: %+v %v", now, err)
		}
		if !now.DeletionDate.Equal(got.DeletionDate) {
			break
		}
	}
	if arn, err := c.CancelKeyDeletion(ctx, self, md.KeyID); err != nil || arn != md.ARN {
		t.Errorf("%s %v", arn, err)
	}
	if _, err := c.ScheduleKeyDeletion(ctx, self, md.KeyID, 0); err != nil {
		t.Error(err)
	}
}
