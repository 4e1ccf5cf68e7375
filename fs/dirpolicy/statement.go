package dirpolicy

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// statement is a statement on its way from YAML to the policy language, of which it is a shorter notation.
type statement struct {
	node       *yaml.Node
	name       *yaml.Node
	effect     *yaml.Node
	who        []*policy.Node // ARNs, or "*"
	not        bool           // who names everybody else
	actions    []*policy.Node
	conditions []policy.Member
	from, to   time.Time
}

func (b *builder) statements(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return refuse(n, "statements is a list of statements")
	}
	list := &policy.Node{Kind: policy.List, Line: n.Line, Column: n.Column}
	all := make([]*statement, 0, len(n.Content))
	for _, item := range n.Content {
		s, err := b.statement(item)
		if err != nil {
			return err
		}
		all = append(all, s)
		list.Items = append(list.Items, *s.build())
	}
	root := &policy.Node{Kind: policy.Object, Line: n.Line, Column: n.Column, Members: []policy.Member{
		{Name: "Version", Value: policy.Node{Kind: policy.Text, Text: "2012-10-17"}}, {Name: "Statement", Value: *list},
	}}
	document, err := policy.Rules{Kind: policy.DirectoryPolicy, Resolve: b.resolve, Actions: Actions}.Build(root)
	if err != nil {
		return err
	}
	b.policy.Statements = document
	return unreachable(all)
}

// resolve asks about users and groups by name.
func (b *builder) resolve(arn string) error {
	const prefix = "arn:aws:iam::" + keymgr.AccountID + ":unix/"
	rest, ok := strings.CutPrefix(arn, prefix)
	if !ok {
		return nil
	}
	kind, name, _ := strings.Cut(rest, "/")
	ask := b.resolver.User
	if kind == "group" {
		ask = b.resolver.Group
	}
	if ask == nil {
		return nil
	}
	return ask(name)
}

const statementMembers = "name, effect, users, groups, principals, not_users, not_groups, actions, programs, not_programs, program_sha256, paths, not_paths, " +
	"not_before, not_after, condition"

func (b *builder) statement(n *yaml.Node) (*statement, error) {
	s := &statement{node: n}
	user := func(name string) string { return policy.UserARN(keymgr.AccountID, name) }
	group := func(name string) string { return policy.GroupARN(keymgr.AccountID, name) }
	same := func(name string) string { return name }
	err := members(n, "a statement", map[string]func(*yaml.Node) error{
		"name":       func(n *yaml.Node) error { s.name = n; _, err := text(n); return err },
		"effect":     func(n *yaml.Node) error { s.effect = n; return oneOf(n, "effect", "allow", "deny") },
		"users":      func(n *yaml.Node) error { return s.principals(n, false, user) },
		"groups":     func(n *yaml.Node) error { return s.principals(n, false, group) },
		"principals": func(n *yaml.Node) error { return s.principals(n, false, same) },
		"not_users":  func(n *yaml.Node) error { return s.principals(n, true, user) },
		"not_groups": func(n *yaml.Node) error { return s.principals(n, true, group) },
		"actions":    s.addActions,
		"programs": func(n *yaml.Node) error {
			b.policy.Programs = true
			return s.condition(n, "StringLike", "kmsfs:Program")
		},
		"not_programs": func(n *yaml.Node) error {
			b.policy.Programs = true
			return s.condition(n, "StringNotLike", "kmsfs:Program")
		},
		"program_sha256": func(n *yaml.Node) error {
			b.policy.Digests = true
			return s.condition(n, "StringEquals", "kmsfs:ProgramSha256")
		},
		"paths":      func(n *yaml.Node) error { b.policy.Paths = true; return s.paths(n, "StringLike") },
		"not_paths":  func(n *yaml.Node) error { b.policy.Paths = true; return s.paths(n, "StringNotLike") },
		"not_before": func(n *yaml.Node) error { return s.time(n, "DateGreaterThanEquals", &s.from) },
		"not_after":  func(n *yaml.Node) error { return s.time(n, "DateLessThan", &s.to) },
		"condition":  func(n *yaml.Node) error { return b.raw(s, n) },
	}, statementMembers)
	switch {
	case err != nil:
		return nil, err
	case s.effect == nil:
		return nil, refuse(n, "the statement has no effect: allow or deny")
	case s.who == nil:
		return nil, refuse(n, "the statement says nobody: users, groups or principals are missing")
	case s.actions == nil:
		return nil, refuse(n, "the statement has no actions")
	case !s.from.IsZero() && !s.to.IsZero() && !s.from.Before(s.to):
		return nil, refuse(n, "the statement can never match: not_after is not later than not_before")
	case !s.to.IsZero() && !b.resolver.Now.IsZero() && !b.resolver.Now.Before(s.to):
		return nil, refuse(n, "the statement can never match: not_after is over")
	}
	return s, nil
}

// principals adds whom the statement names, or whom it does not.
func (s *statement) principals(n *yaml.Node, not bool, arn func(string) string) error {
	items, err := texts(n)
	if err != nil {
		return err
	}
	if s.who != nil && s.not != not {
		return refuse(n, "a statement names either whom it is for or, with not_, whom it is not for")
	}
	s.not = not
	for _, item := range items {
		p := node(item)
		if item.Value != "*" {
			p.Text = arn(item.Value)
		}
		s.who = append(s.who, p)
	}
	return nil
}

// addActions adds actions; the prefix kmsfs: may be left out.
func (s *statement) addActions(n *yaml.Node) error {
	items, err := texts(n)
	if err != nil {
		return err
	}
	for _, item := range items {
		a := node(item)
		if !strings.Contains(a.Text, ":") && a.Text != "*" {
			a.Text = "kmsfs:" + a.Text
		}
		s.actions = append(s.actions, a)
	}
	return nil
}

func (s *statement) condition(n *yaml.Node, operator, key string) error {
	items, err := texts(n)
	if err != nil {
		return err
	}
	values := policy.Node{Kind: policy.List, Line: n.Line, Column: n.Column}
	for _, item := range items {
		values.Items = append(values.Items, *node(item))
	}
	s.conditions = append(s.conditions, condition(n, operator, key, values))
	return nil
}

// condition is an operator with one key.
func condition(n *yaml.Node, operator, key string, values policy.Node) policy.Member {
	keys := policy.Node{Kind: policy.Object, Line: n.Line, Column: n.Column, Members: []policy.Member{{Name: key, Line: n.Line, Column: n.Column, Value: values}}}
	return policy.Member{Name: operator, Line: n.Line, Column: n.Column, Value: keys}
}

// paths are those below the directory that has the policy, which is "/".
func (s *statement) paths(n *yaml.Node, operator string) error {
	items, err := texts(n)
	if err != nil {
		return err
	}
	for _, item := range items {
		switch v := item.Value; {
		case !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "*"):
			return refuse(item, "a path begins with / (the directory that has the policy) or *, unlike %q", v)
		case strings.Contains(v, "//"), strings.Contains(v+"/", "/../"), strings.Contains(v+"/", "/./"), len(v) > 1 && strings.HasSuffix(v, "/"):
			return refuse(item, "the statement can never match: no file has the path %q", v)
		}
	}
	return s.condition(n, operator, "kmsfs:Path")
}

func (s *statement) time(n *yaml.Node, operator string, into *time.Time) error {
	t, err := timeOf(n)
	if err != nil {
		return err
	}
	*into = t
	values := policy.Node{Kind: policy.Text, Text: t.UTC().Format(time.RFC3339), Line: n.Line, Column: n.Column}
	s.conditions = append(s.conditions, condition(n, operator, "aws:CurrentTime", values))
	return nil
}

// raw takes conditions as the policy language has them: operators of condition keys of values.
func (b *builder) raw(s *statement, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return refuse(n, "condition is a mapping of operators to condition keys")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		operator, keys := n.Content[i], n.Content[i+1]
		if keys.Kind != yaml.MappingNode || len(keys.Content) == 0 {
			return refuse(keys, "%s needs a mapping of condition keys to values", operator.Value)
		}
		for j := 0; j+1 < len(keys.Content); j += 2 {
			key := keys.Content[j]
			b.needs(strings.ToLower(key.Value))
			for _, v := range keys.Content[j+1].Content {
				b.needs(strings.ToLower(v.Value))
			}
			b.needs(strings.ToLower(keys.Content[j+1].Value))
			if err := s.condition(keys.Content[j+1], operator.Value, key.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// needs notes what has to be found out about a caller for a condition key, or a value with variables.
func (b *builder) needs(folded string) {
	b.policy.Digests = b.policy.Digests || strings.Contains(folded, "kmsfs:programsha256")
	b.policy.Programs = b.policy.Programs || strings.Contains(folded, "kmsfs:program")
	b.policy.Paths = b.policy.Paths || strings.Contains(folded, "kmsfs:path")
	b.policy.Volumes = b.policy.Volumes || strings.Contains(folded, "kmsfs:volume")
}

// build is the statement in the policy language.
func (s *statement) build() *policy.Node {
	effect := "Allow"
	if s.effect.Value == "deny" {
		effect = "Deny"
	}
	out := &policy.Node{Kind: policy.Object, Line: s.node.Line, Column: s.node.Column}
	add := func(name string, n *yaml.Node, v policy.Node) {
		out.Members = append(out.Members, policy.Member{Name: name, Line: n.Line, Column: n.Column, Value: v})
	}
	if s.name != nil {
		add("Sid", s.name, *node(s.name))
	}
	add("Effect", s.effect, policy.Node{Kind: policy.Text, Text: effect, Line: s.effect.Line, Column: s.effect.Column})
	who := list(s.node, s.who)
	name := "Principal"
	if s.not {
		name = "NotPrincipal"
	}
	add(name, s.node, policy.Node{Kind: policy.Object, Line: s.who[0].Line, Column: s.who[0].Column, Members: []policy.Member{{Name: "AWS", Value: who}}})
	add("Action", s.node, list(s.node, s.actions))
	if len(s.conditions) > 0 {
		add("Condition", s.node, policy.Node{Kind: policy.Object, Line: s.node.Line, Column: s.node.Column, Members: s.conditions})
	}
	return out
}

func list(n *yaml.Node, items []*policy.Node) policy.Node {
	l := policy.Node{Kind: policy.List, Line: n.Line, Column: n.Column}
	for _, item := range items {
		l.Items = append(l.Items, *item)
	}
	return l
}

func node(n *yaml.Node) *policy.Node {
	return &policy.Node{Kind: policy.Text, Text: n.Value, Line: n.Line, Column: n.Column}
}

// unreachable refuses an allow of which a deny without conditions takes everything.
func unreachable(all []*statement) error {
	for _, allow := range all {
		if allow.effect.Value != "allow" {
			continue
		}
		for _, deny := range all {
			if deny.effect.Value == "deny" && deny.takesAll(allow) {
				return refuse(allow.node, "the statement can never match: the deny in line %d takes all of it", deny.node.Line)
			}
		}
	}
	return nil
}

func (s *statement) takesAll(allow *statement) bool {
	return !s.not && !allow.not && len(s.conditions) == 0 && within(allow.who, s.who, "*") && within(allow.actions, s.actions, "*", "kmsfs:*")
}

// within reports whether all is in set, in which one of the words stands for everything.
func within(all, set []*policy.Node, words ...string) bool {
	if slices.ContainsFunc(set, func(n *policy.Node) bool { return slices.Contains(words, n.Text) }) {
		return true
	}
	return !slices.ContainsFunc(all, func(n *policy.Node) bool {
		return !slices.ContainsFunc(set, func(m *policy.Node) bool { return strings.EqualFold(m.Text, n.Text) })
	})
}
