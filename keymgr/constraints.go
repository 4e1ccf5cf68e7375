package keymgr

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// check is what is wrong with the constraints. ErrValidation.
func (c GrantConstraints) check() error {
	for name, pairs := range map[string]Context{"encryptionContextEquals": c.Equals, "encryptionContextSubset": c.Subset} {
		if len(pairs) > MaxConstraintPairs {
			return fault(ErrValidation, "Value at 'constraints.%s' failed to satisfy constraint: Member must have at most %d pairs", name, MaxConstraintPairs)
		}
		for k, v := range pairs {
			if err := checkLength("constraints."+name, k, 1, MaxContext, false); err != nil {
				return err
			}
			if err := checkLength("constraints."+name, v, 0, MaxConstraintValue, false); err != nil {
				return err
			}
		}
		if len(folded(pairs)) != len(pairs) {
			return fault(ErrValidation, "Value at 'constraints.%s' has names that differ in case only", name)
		}
	}
	return nil
}

// folded gives the values of a context by the lower-case form of their names.
func folded(c Context) map[string][]string {
	out := make(map[string][]string, len(c))
	for k, v := range c {
		out[strings.ToLower(k)] = append(out[strings.ToLower(k)], v)
	}
	return out
}

// holds reports whether a request's context has all pairs of want. Where it has a name in two spellings, both must have the value.
func holds(c, want Context) bool {
	have := folded(c)
	for k, v := range want {
		values := have[strings.ToLower(k)]
		if len(values) == 0 || slices.ContainsFunc(values, func(x string) bool { return x != v }) {
			return false
		}
	}
	return true
}

// admits reports whether a request with this encryption context satisfies the constraints.
func (c GrantConstraints) admits(request Context) bool {
	if len(c.Equals) > 0 && (len(request) != len(c.Equals) || !holds(request, c.Equals)) {
		return false
	}
	return holds(request, c.Subset)
}

// same reports whether two constraints are written alike.
func (c GrantConstraints) same(d GrantConstraints) bool {
	return maps.Equal(c.Equals, d.Equals) && maps.Equal(c.Subset, d.Subset)
}

// within reports whether whatever c admits, parent admits too.
func (c GrantConstraints) within(parent GrantConstraints) bool {
	if len(parent.Equals) > 0 && (len(c.Equals) != len(parent.Equals) || !holds(c.Equals, parent.Equals)) {
		return false
	}
	if len(parent.Subset) == 0 {
		return true
	}
	return holds(c.Equals, parent.Subset) || holds(c.Subset, parent.Subset)
}

// covers reports whether the grant allows the action, now and with this encryption context. A grant to make grants is bound by what may be handed on instead.
func (g *grant) covers(action string, request *Context, now time.Time) bool {
	if !slices.Contains(g.Operations, action) || g.expired(now) {
		return false
	}
	switch action {
	case "DescribeKey", "RetireGrant", "CreateGrant":
		return true
	}
	return request != nil && g.Constraints.admits(*request)
}

func (g *grant) expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// decision is a decision, and the grants that allow the request.
type decision struct {
	policy.Decision
	grants []*grant
}

// handsOn finds the grant among those that allow CreateGrant which covers all of child; nil if there is none.
func (d decision) handsOn(child *grant) *grant {
	for _, parent := range d.grants {
		within := child.Constraints.within(parent.Constraints)
		for _, op := range child.Operations {
			within = within && slices.Contains(parent.Operations, op)
		}
		if within {
			return parent
		}
	}
	return nil
}
