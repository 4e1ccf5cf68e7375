package policy

// resource is a pattern of Resource or NotResource.
type resource struct {
	text   string    // as written
	fields []pattern // of an ARN; nil for "*"
}

// parseResource checks one pattern; it says why it is refused.
func (b *builder) parseResource(text string, not bool) (resource, string) {
	r := resource{text: text}
	switch {
	case text == "*" && not:
		return r, "in NotResource makes a statement that can never apply"
	case text == "*":
		return r, ""
	case len(text) > MaxPattern:
		return r, "is too long"
	}
	var why string
	if r.fields, why = parseARNPattern(text, b.vars); why != "" {
		return r, why
	}
	for _, f := range r.fields {
		if not && f.parts != nil {
			return r, "has a variable, which NotResource can't have"
		}
	}
	return r, ""
}

// matches decides whether the pattern matches the request's resource.
func (p *resource) matches(r *Request) truth {
	if p.fields == nil {
		return yes
	}
	return matchARN(r, p.fields, r.Resource)
}
