package keymgr

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// TagResource adds tags to a key (id or ARN), or changes their values. Errors: ErrTag, ErrValidation, ErrNotFound, ErrInvalidState, ErrAccessDenied, and those
// that are ErrKeyUnavailable.
func (m *Manager) TagResource(ctx context.Context, by Caller, keyID string, tags []Tag) error {
	err := checkTags(tags)
	return m.changeTags(ctx, by, "TagResource", keyID, ask{key: keyID, bad: err, conditions: func(c *policy.Context) { c.RequestTags(tagMap(tags)) }}, func(have map[string]string) error {
		for _, t := range tags {
			have[t.Key] = t.Value
		}
		if len(have) > MaxTags {
			return fault(ErrTag, "Too many tags")
		}
		return nil
	})
}

// UntagResource removes tags of a key (id or ARN); one that it does not have is no error. Errors as TagResource.
func (m *Manager) UntagResource(ctx context.Context, by Caller, keyID string, names []string) error {
	var err error
	for i, name := range names {
		if err == nil {
			err = checkTagText(fmt.Sprintf("tagKeys.%d.member", i+1), name, 1, MaxTagKey)
		}
	}
	return m.changeTags(ctx, by, "UntagResource", keyID, ask{key: keyID, bad: err, conditions: func(c *policy.Context) { c.Text("aws:TagKeys", names...) }}, func(have map[string]string) error {
		for _, name := range names {
			delete(have, name)
		}
		return nil
	})
}

// changeTags applies edit to the key's tags.
func (m *Manager) changeTags(ctx context.Context, by Caller, operation, keyID string, a ask, edit func(map[string]string) error) error {
	u := &Use{Operation: operation, Key: printable(keyID)}
	return m.changeKey(ctx, by, u, a, func(tx kv.Txn, k *cmk) error {
		tags, err := m.loadTags(ctx, tx, k.id)
		if err != nil {
			return err
		}
		if tags == nil {
			tags = map[string]string{}
		}
		if err := edit(tags); err != nil {
			return err
		}
		return m.putTags(tx, k.id, tags)
	})
}

func (m *Manager) putTags(tx kv.Txn, id keyUUID, tags map[string]string) error {
	if len(tags) == 0 {
		tx.Delete(key(rowTags, id[:]))
		return nil
	}
	return m.rows.put(tx, key(rowTags, id[:]), tagsRecord{Tags: tags})
}

func (m *Manager) loadTags(ctx context.Context, r kv.Reader, id keyUUID) (map[string]string, error) {
	var rec tagsRecord
	_, err := m.rows.get(ctx, r, key(rowTags, id[:]), &rec)
	return rec.Tags, err
}

// ListResourceTags lists the tags of a key (id or ARN), sorted. Errors: ErrNotFound, ErrValidation, ErrInvalidMarker, ErrAccessDenied.
func (m *Manager) ListResourceTags(ctx context.Context, by Caller, keyID string, page Page) (TagList, error) {
	k, err := m.readable(ctx, by, "ListResourceTags", ask{key: keyID})
	if err != nil {
		return TagList{}, err
	}
	all := make([]Tag, 0, len(k.tags))
	for _, name := range slices.Sorted(maps.Keys(k.tags)) {
		all = append(all, Tag{name, k.tags[name]})
	}
	var list TagList
	list.Tags, list.NextMarker, err = pageOf(page, all, func(t Tag) string { return t.Key }, 50, 50)
	return list, err
}

// checkTags is AWS' validation of the tags of a request. ErrTag, ErrValidation.
func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for i, t := range tags {
		if err := checkTagText(fmt.Sprintf("tags.%d.member.tagKey", i+1), t.Key, 1, MaxTagKey); err != nil {
			return err
		}
		if err := checkTagText(fmt.Sprintf("tags.%d.member.tagValue", i+1), t.Value, 0, MaxTagValue); err != nil {
			return err
		}
		if len(t.Key) >= 4 && strings.EqualFold(t.Key[:4], "aws:") {
			return fault(ErrTag, "Tags beginning with aws: are reserved")
		}
		if seen[t.Key] {
			return fault(ErrTag, "Duplicate tag keys")
		}
		seen[t.Key] = true
	}
	if len(tags) > MaxTags {
		return fault(ErrTag, "Too many tags")
	}
	return nil
}

// checkTagText allows what AWS' tags may hold: letters, digits and white space of any script, and _.:/=+-@
func checkTagText(member, s string, min, max int) error {
	if err := checkLength(member, s, min, max, true); err != nil {
		return err
	}
	for _, c := range s {
		if !unicode.IsLetter(c) && !unicode.IsNumber(c) && !unicode.IsSpace(c) && !strings.ContainsRune("_.:/=+-@", c) {
			return fault(ErrTag, "Value at '%s' holds a character that tags cannot have", member)
		}
	}
	return nil
}
