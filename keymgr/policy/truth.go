package policy

// truth is what is known about a statement's part: that it does not hold, that this could not be determined, that it holds.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth        { return yes - t }
func (t truth) and(u truth) truth { return min(t, u) }
func (t truth) or(u truth) truth  { return max(t, u) }
