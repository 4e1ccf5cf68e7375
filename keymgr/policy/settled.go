package policy

// Settled decides as Evaluate does, if who asks and for which action is enough to know: no statement that may apply has conditions or names resources. ok is false otherwise. What it gives counts
// for every request of the principal for the action, whatever time, resource and context are.
func (d *Document) Settled(who Principal, action string) (decision Decision, ok bool) {
	best := Decision{Source: d.decider(), Statement: -1}
	action = fold(action)
	for i := range d.statements {
		s := &d.statements[i]
		if !s.about(action) {
			continue
		}
		open := len(s.conditions)+len(s.resources) > 0
		if s.effect == ExplicitDeny {
			switch t := s.refuses(&who); {
			case t == no:
			case open:
				return Decision{}, false
			default:
				return s.decision(Decision{Effect: ExplicitDeny, Unresolved: t == maybe, Source: best.Source, Statement: i}), true
			}
			continue
		}
		if best.Effect == Allow {
			continue
		}
		direct, delegated := s.accepts(&who)
		switch {
		case !direct && (!delegated || best.Delegated):
		case open:
			return Decision{}, false
		case direct:
			best = s.decision(Decision{Effect: Allow, Source: best.Source, Statement: i})
		default:
			best = s.decision(Decision{Delegated: true, Source: best.Source, Statement: i})
		}
	}
	return best, true
}
