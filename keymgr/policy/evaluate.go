package policy

// Decision is what a document, or several together, say about a request.
type Decision struct {
	Effect Effect
	// Delegated: the key policy leaves the decision to the identity policies of the caller's account, because a statement allows the account, not
	// the caller. Only with ImplicitDeny.
	Delegated bool
	// Unresolved: an explicit Deny applies because something that it asks for could not be found out.
	Unresolved bool

	Source       Source // of what decided; of a single document, its kind
	Statement    int    // index of the statement that decided (or delegated), from 0; -1 if there is none
	Sid          string // of that statement
	Line, Column int    // of that statement in its document; 0 if unknown
}

// Evaluate decides a request by this document alone. Where several statements apply, the first Deny decides, else the first Allow for the caller, else
// the first Allow for its account. It does not block and takes time in proportion to the document.
func (d *Document) Evaluate(r Request) Decision {
	source := d.decider()
	best := Decision{Source: source, Statement: -1}
	action := fold(r.Action)
	for i := range d.statements {
		s := &d.statements[i]
		if s.effect == ExplicitDeny {
			if t := s.denies(&r, action); t != no {
				return s.decision(Decision{Effect: ExplicitDeny, Unresolved: t == maybe, Source: source, Statement: i})
			}
			continue
		}
		if best.Effect == Allow {
			continue
		}
		direct, delegated := s.allows(&r, action)
		switch {
		case direct:
			best = s.decision(Decision{Effect: Allow, Source: source, Statement: i})
		case delegated && !best.Delegated:
			best = s.decision(Decision{Delegated: true, Source: source, Statement: i})
		}
	}
	return best
}

// decider is what a decision by the document comes from.
func (d *Document) decider() Source {
	switch d.kind {
	case IdentityPolicy:
		return FromIdentityPolicy
	case DirectoryPolicy:
		return FromDirectoryPolicy
	}
	return FromKeyPolicy
}

// decision adds the statement's name and place.
func (s *statement) decision(d Decision) Decision {
	d.Sid, d.Line, d.Column = s.sid, s.line, s.column
	return d
}

// denies decides whether a Deny applies.
func (s *statement) denies(r *Request, action string) truth {
	t := s.target(r, action)
	if t == no {
		return no
	}
	return s.when(r, t.and(s.refuses(&r.Principal)))
}

// refuses decides whether a Deny is for a principal.
func (s *statement) refuses(p *Principal) truth {
	if len(s.principals) == 0 {
		return yes
	}
	who := no
	for i := range s.principals {
		if s.notPrincipal {
			who = who.or(s.principals[i].names(p))
		} else {
			who = who.or(s.principals[i].covers(p))
		}
	}
	if s.notPrincipal {
		who = who.not()
	}
	return who
}

// allows decides whether an Allow applies to the caller itself, or to its account.
func (s *statement) allows(r *Request, action string) (direct, delegated bool) {
	direct, delegated = s.accepts(&r.Principal)
	if !direct && !delegated || s.when(r, s.target(r, action)) != yes {
		return false, false
	}
	return direct, delegated
}

// accepts decides whether an Allow is for a principal, or for its account.
func (s *statement) accepts(who *Principal) (direct, delegated bool) {
	direct = len(s.principals) == 0
	for i := range s.principals {
		p := &s.principals[i]
		direct = direct || p.names(who) == yes
		delegated = delegated || p.covers(who) == yes
	}
	return direct, delegated
}

// about decides whether the statement is about an action, which is folded.
func (s *statement) about(action string) bool {
	if s.inert {
		return false
	}
	named := false
	for i := range s.actions {
		named = named || s.actions[i].matches(action)
	}
	return named != s.notAction
}

// target decides whether the statement is about the request's action and resource.
func (s *statement) target(r *Request, action string) truth {
	if !s.about(action) {
		return no
	}
	if len(s.resources) == 0 {
		return yes
	}
	t := no
	for i := range s.resources {
		t = t.or(s.resources[i].matches(r))
	}
	if s.notResource {
		return t.not()
	}
	return t
}

// when adds the conditions to what is decided already.
func (s *statement) when(r *Request, t truth) truth {
	for i := range s.conditions {
		if t == no {
			return no
		}
		t = t.and(s.conditions[i].holds(r, s.effect))
	}
	return t
}
