package adaptertest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFaults breaks a driver in every way of the list, and wants the right rules to be red, for the right reason. And
// it wants a fault for every rule: a check that has not been seen red proves nothing.
func TestFaults(t *testing.T) {
	forgotten = make(chan struct{})
	t.Cleanup(func() { close(forgotten) })
	rules := allRulesByName()
	seen := maps.Clone(noFault)
	all := slices.Concat(faults, outageFaults, clusterFaults, foreignFaults)
	for i := range all {
		x := &all[i]
		for name := range x.red {
			seen[name] = x.name
		}
		t.Run(x.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(x.red)) {
				r, ok := rules[name]
				if !ok {
					t.Errorf("there is no rule %q", name)
					continue
				}
				// Most faults show as something that never comes. Waiting for it long is for a busy machine only, on
				// which a short wait may end before the rule gets to its point.
				red, said := record(t, Harness{New: x.cluster, Patience: 300 * time.Millisecond}, r)
				if red && !strings.Contains(said, x.red[name]) {
					red, said = record(t, Harness{New: x.cluster, Patience: 5 * time.Second}, r)
				}
				switch {
				case !red:
					t.Errorf("rule %s is green", name)
				case !strings.Contains(said, x.red[name]):
					t.Errorf("rule %s is red, but did not say %q:\n%s", name, x.red[name], said)
				default:
					t.Logf("%s:\n%.600s", name, said)
				}
			}
		})
	}
	for name := range rules {
		if seen[name] == "" {
			t.Errorf("no fault turns the rule %s red", name)
		}
	}
}
