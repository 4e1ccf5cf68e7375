package dirpolicy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta"
)

// Parse reads a policy. Errors are *policy.Error: of class policy.ErrTooLarge, policy.ErrInvalidPrincipal or policy.ErrMalformed.
func Parse(source []byte, r Resolver) (*Policy, error) {
	if len(source) > MaxSource {
		return nil, &policy.Error{Class: policy.ErrTooLarge, Reason: fmt.Sprintf("the policy has %d bytes, at most %d are allowed", len(source), MaxSource)}
	}
	root, err := document(source)
	if err != nil {
		return nil, err
	}
	p := &Policy{Params: meta.DefaultParams(), source: bytes.Clone(source)}
	b := builder{policy: p, resolver: r}
	if err := b.build(root); err != nil {
		return nil, err
	}
	return p, nil
}

// document returns the one mapping that source is.
func document(source []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(source))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &policy.Error{Class: policy.ErrMalformed, Line: 1, Column: 1, Reason: "the policy is empty"}
		}
		return nil, syntax(err)
	}
	if err := dec.Decode(&more); err == nil {
		return nil, refuse(&more, "there is a second document")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntax(err)
	}
	root := doc.Content[0]
	if err := plain(root, 0); err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, refuse(root, "a policy is a mapping of names to values")
	}
	return root, nil
}

// syntax gives the parser's error its place: it has it in its text only, as "yaml: line 3: reason".
func syntax(err error) error {
	e := &policy.Error{Class: policy.ErrMalformed, Line: 1, Column: 1, Reason: strings.TrimPrefix(err.Error(), "yaml: ")}
	if rest, ok := strings.CutPrefix(e.Reason, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				e.Line, e.Reason = n, reason
			}
		}
	}
	return e
}

// maxDepth is deeper than any policy: document, statements, statement, condition, operator, key, values.
const maxDepth = 8

// plain refuses what makes a document other than it looks: anchors, aliases, merges, tags, members that stand twice.
func plain(n *yaml.Node, depth int) error {
	switch {
	case depth > maxDepth:
		return refuse(n, "nested too deeply")
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return refuse(n, "anchors and aliases are not allowed in a policy")
	case n.Style&yaml.TaggedStyle != 0:
		return refuse(n, "tags are not allowed in a policy")
	}
	seen := map[string]bool{}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if c.Kind != yaml.ScalarNode || c.Tag == "!!merge" {
				return refuse(c, "a name is expected here")
			}
			if seen[c.Value] {
				return refuse(c, "%s stands twice", c.Value)
			}
			seen[c.Value] = true
		}
		if err := plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func refuse(n *yaml.Node, format string, args ...any) error {
	return &policy.Error{Class: policy.ErrMalformed, Line: n.Line, Column: n.Column, Reason: fmt.Sprintf(format, args...)}
}

// builder fills in a policy.
type builder struct {
	policy   *Policy
	resolver Resolver
}

// members calls fn for each member of a mapping; others than those named are refused.
func members(n *yaml.Node, what string, fn map[string]func(*yaml.Node) error, names string) error {
	if n.Kind != yaml.MappingNode {
		return refuse(n, "%s is a mapping of names to values", what)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		f := fn[name.Value]
		if f == nil {
			return refuse(name, "%q is no member of %s: there are %s", name.Value, what, names)
		}
		if err := f(value); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) build(root *yaml.Node) error {
	p := b.policy
	err := members(root, "a policy", map[string]func(*yaml.Node) error{
		"version":     func(n *yaml.Node) error { return oneOf(n, "version", "1") },
		"description": func(n *yaml.Node) error { _, err := text(n); return err },
		"keys":        b.keys,
		"block_size":  b.blockSize,
		"compression": b.compression,
		"inline":      b.inline,
		"wrap":        b.wrap,
		"key_ttl":     b.keyTTL,
		"audit":       b.audit,
		"revocation":  func(n *yaml.Node) error { return choice(n, "revocation", "shared", "strict", &p.Strict) },
		"metadata":    func(n *yaml.Node) error { return choice(n, "metadata", "cached", "strict", &p.StrictMetadata) },
		"learn":       b.learn,
		"statements":  b.statements,
	}, "version, description, keys, block_size, compression, inline, wrap, key_ttl, audit, revocation, metadata, learn, statements")
	if err != nil {
		return err
	}
	if member(root, "version") == nil {
		return refuse(root, "there is no version; write \"version: 1\"")
	}
	if n := member(root, "keys"); n != nil && p.ByCMK && len(p.Keys) > 1 {
		return refuse(n, "with wrap: cmk one key wraps the keys of files, not %d", len(p.Keys))
	}
	if n := member(root, "learn"); n != nil && p.Statements == nil {
		return refuse(n, "there is nothing to learn without statements: without them nothing is denied")
	}
	if p.Params.Codec != meta.CodecNone && !p.BlockSizeGiven {
		p.Params.BlockSize = meta.DefaultCompressedBlock
	}
	if err := p.Params.Check(); err != nil {
		for _, name := range []string{"inline", "compression", "block_size"} {
			if n := member(root, name); n != nil {
				return refuse(n, "%v", err)
			}
		}
	}
	return nil
}

func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		return "", refuse(n, "a text is expected here")
	}
	return n.Value, nil
}

// texts returns the text, or the texts of the list, that n is.
func texts(n *yaml.Node) ([]*yaml.Node, error) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 {
		return nil, refuse(n, "the list is empty")
	}
	for _, item := range items {
		if _, err := text(item); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func oneOf(n *yaml.Node, what string, words ...string) error {
	s, err := text(n)
	if err != nil {
		return err
	}
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	return refuse(n, "%s is %s, not %q", what, strings.Join(words, " or "), s)
}

// choice sets on if n is the second of two words.
func choice(n *yaml.Node, what, off, strict string, on *bool) error {
	*on = n.Value == strict
	return oneOf(n, what, off, strict)
}

func (b *builder) keys(n *yaml.Node) error {
	items, err := texts(n)
	if err != nil {
		return err
	}
	if len(items) > meta.MaxZoneWraps {
		return refuse(n, "there are %d keys, at most %d are allowed", len(items), meta.MaxZoneWraps)
	}
	for _, item := range items {
		for _, k := range b.policy.Keys {
			if k.Name == item.Value {
				return refuse(item, "the key %q stands twice", item.Value)
			}
		}
		b.policy.Keys = append(b.policy.Keys, Key{item.Value, item.Line, item.Column})
	}
	return nil
}

// bytesOf reads a number of bytes, with a unit or without.
func bytesOf(n *yaml.Node) (uint64, error) {
	s, err := text(n)
	if err != nil {
		return 0, err
	}
	number, shift := s, 0
	for unit, bits := range map[string]int{"KiB": 10, "K": 10, "MiB": 20, "M": 20} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			number, shift = strings.TrimSpace(rest), bits
			break
		}
	}
	v, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, refuse(n, "%q is no number of bytes, as 4096, 64KiB, 1MiB", s)
	}
	return v << shift, nil
}

func (b *builder) blockSize(n *yaml.Node) error {
	v, err := bytesOf(n)
	if err != nil {
		return err
	}
	if blockcrypt.ValidBlockSize(int(min(v, 1<<31-1))) != nil {
		return refuse(n, "the block size is a power of two from 4KiB to 1MiB, not %s", n.Value)
	}
	b.policy.Params.BlockSize, b.policy.BlockSizeGiven = uint32(v), true
	return nil
}

func (b *builder) inline(n *yaml.Node) error {
	v, err := bytesOf(n)
	if err != nil {
		return err
	}
	if v > 64<<10 {
		return refuse(n, "files of at most 64KiB can lie inline, not %s", n.Value)
	}
	b.policy.Params.Inline, b.policy.InlineGiven = uint32(v), true
	return nil
}

func (b *builder) compression(n *yaml.Node) error {
	s, err := text(n)
	if err != nil {
		return err
	}
	codec, level, err := meta.ParseCompression(s)
	if err != nil {
		return refuse(n, "compression is none, s2, zstd, or one of the last two with a level, as zstd:3, not %q", s)
	}
	b.policy.Params.Codec, b.policy.Params.Level, b.policy.CompressionGiven = codec, level, true
	return nil
}

func (b *builder) wrap(n *yaml.Node) error {
	return choice(n, "wrap", "zone", "cmk", &b.policy.ByCMK)
}

func (b *builder) keyTTL(n *yaml.Node) error {
	s, err := text(n)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > MaxKeyTTL || d%time.Second != 0 {
		return refuse(n, "key_ttl is a time from 1s to %dh in whole seconds, as 15m, not %q", MaxKeyTTL/time.Hour, s)
	}
	b.policy.KeyTTL, b.policy.KeyTTLGiven = d, true
	return nil
}

func (b *builder) audit(n *yaml.Node) error {
	b.policy.Audit = audit.Level(n.Value)
	return oneOf(n, "audit", string(audit.LevelDenied), string(audit.LevelAccess), string(audit.LevelFull))
}

func (b *builder) learn(n *yaml.Node) error {
	t, err := timeOf(n)
	if err != nil {
		return err
	}
	if now := b.resolver.Now; !now.IsZero() {
		if !t.After(now) {
			return refuse(n, "learn is over already: it is a time to come")
		}
		if t.Sub(now) > MaxLearn {
			return refuse(n, "learn ends within %d days; the latest time is %s", MaxLearn/(24*time.Hour), now.Add(MaxLearn).UTC().Format(time.RFC3339))
		}
	}
	b.policy.Learn = t
	return nil
}

// timeOf reads a date, or a date and a time.
func timeOf(n *yaml.Node) (time.Time, error) {
	s, err := text(n)
	if err != nil {
		return time.Time{}, err
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, refuse(n, "%q is no time, as 2026-12-31 or 2026-12-31T18:00:00Z", s)
}
