package policy

import "testing"

// TestOver: what is laid over a Context counts, and what is below stays as it is.
func TestOver(t *testing.T) {
	var base Context
	base.Text("kms:KeySpec", "SYMMETRIC_DEFAULT")
	base.Text("kms:KeyOrigin", "AWS_KMS")
	base.ResourceTags(map[string]string{"Team": "red", "Cost": "1"})
	over := Over(&base)
	over.Text("kms:KeyOrigin", "EXTERNAL")
	over.Defaulted("kms:KeySpec")
	over.ResourceTags(map[string]string{"Team": "blue"})
	text := func(c *Context, id string) string {
		e := c.get(fold(id))
		if len(e.values) != 1 {
			return ""
		}
		return e.values[0].text
	}
	for _, c := range []struct{ id, below, above string }{
		{"kms:KeySpec", "SYMMETRIC_DEFAULT", "SYMMETRIC_DEFAULT"},
		{"kms:KeyOrigin", "AWS_KMS", "EXTERNAL"},
		{"aws:ResourceTag/Team", "red", "blue"},
		{"aws:ResourceTag/Cost", "1", ""},
		{"kms:KeyUsage", "", ""},
	} {
		if got := text(&base, c.id); got != c.below {
			t.Errorf("below, %s is %q, not %q", c.id, got, c.below)
		}
		if got := text(&over, c.id); got != c.above {
			t.Errorf("above, %s is %q, not %q", c.id, got, c.above)
		}
	}
	if base.get(fold("kms:KeySpec")).defaulted || !over.get(fold("kms:KeySpec")).defaulted {
		t.Error("a mark above is one below, or none")
	}
}
