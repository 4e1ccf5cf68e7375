package policy_test

import "testing"

// TestNumberOfCases holds the tables to the promised 250 cases, each with a name of its own.
func TestNumberOfCases(t *testing.T) {
	names := map[string]bool{}
	add := func(table, name string) {
		if names[table+": "+name] {
			t.Errorf("%s has two cases named %q", table, name)
		}
		names[table+": "+name] = true
	}
	for _, c := range whoCases {
		add("principals", c.name)
	}
	for _, c := range notCases {
		add("NotPrincipal", c.name)
	}
	for _, c := range targetCases {
		add("targets", c.name)
	}
	for _, table := range [][]conditionCase{stringCases, numberCases, dateCases, otherCases, absentCases, setCases, caseCases,
		variableCases, uncertainCases, hostCases} {
		for _, c := range table {
			add("conditions", c.name)
		}
	}
	for _, c := range documentCases {
		add("documents", c.name)
	}
	for _, c := range combineCases {
		add("combine", c.name)
	}
	for _, c := range lockoutCases {
		add("lockout", c.name)
	}
	t.Logf("%d cases", len(names))
	if len(names) < 250 {
		t.Errorf("%d cases, at least 250 were promised", len(names))
	}
}
