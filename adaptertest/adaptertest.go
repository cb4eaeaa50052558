package adaptertest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
)

// A Harness describes a driver to the suite.
type Harness struct {
	// New makes a cluster, separate from all others. It is called once for each rule. It registers the end of
	// everything that it starts with tb.Cleanup; those functions run after the nodes are closed.
	New func(tb testing.TB) Cluster

	// Lacks lists the capabilities that the driver does not have with the options that New sets. Each has a reason: a
	// sentence for users. Rules that need one are not checked; all others are. Put the list into the driver's
	// documentation, too.
	Lacks map[Capability]string

	// Exceptions lists, by name, the rules that the driver does not keep, each with the reason. They are not checked.
	Exceptions map[string]string

	// Patience is how long the suite waits for an expected event. Default 10 s. Only failures take that long.
	Patience time.Duration

	// Heartbeat is the interval of the nodes, except in rules with their own. Default 1 s. A shorter one makes the
	// suite faster, but a driver might then take a slow link for a dead one.
	Heartbeat time.Duration
}

// A Cluster is a bus for some nodes. Only Adapter is required.
type Cluster struct {
	// Adapter makes the adapter of one more node, not started yet.
	Adapter func() crosscast.Adapter

	// Cut breaks the link of the node with the i-th adapter, counted from 0, in a way that the driver can notice by
	// itself: connections end with an error, and new ones are refused. Restore allows connections again. Both return at
	// once. Restore may be called without a Cut. Set both or neither.
	Cut, Restore func(i int)

	// Deafen makes the i-th adapter's present connections receive nothing more, without an error. New connections work.
	// It is for drivers whose links can become deaf.
	Deafen func(i int)

	// Deny makes the bus refuse the i-th adapter's subscription to a name, even an existing one. With denied false, the
	// bus allows it again. The name is always the room "denied". At the call, some node has already subscribed
	// everything else that the adapter needs, so a bus that can only list the allowed names can do this too. It is for
	// drivers of a bus with permissions.
	Deny func(i int, name crosscast.Address, denied bool)

	// Peek returns the packets that the bus has carried so far, for any receiver. The observer must not count as a
	// receiver. Inject makes the bus carry a packet that no node sent. Set both or neither. They are for drivers whose
	// bus strangers can use.
	Peek   func() []Packet
	Inject func(Packet)
}

// A Packet is bytes on a bus.
type Packet struct {
	Topic string
	Data  []byte
}

const defaultPatience = 10 * time.Second

// needs is the part of a Cluster, or the interface of its adapters, that a rule needs beside an Adapter.
type needs string

const (
	needsLink    needs = "Cluster.Cut and Restore"
	needsDeaf    needs = "Cluster.Deafen"
	needsDeny    needs = "Cluster.Deny"
	needsBytes   needs = "Cluster.Peek and Inject"
	needsSub     needs = "crosscast.AdapterSubscriber"
	needsReach   needs = "crosscast.AdapterDeliverer"
	needsForeign needs = "crosscast.ForeignAdapter"

	needsObserver needs = "crosscast.AdapterObserver"
)

// faults reports whether the rule breaks something that nodes must notice.
func (n needs) faults() bool { return n == needsLink || n == needsDeaf || n == needsDeny }

// faultHeartbeat is short, so that faults are noticed and recovered from quickly.
const faultHeartbeat = 250 * time.Millisecond

// A rule is one checked promise, in plain words and in code.
type rule struct {
	name       string
	text       string
	needs      needs
	capability Capability // without it a driver cannot keep the rule; empty: every driver can
	run        func(b *bed)
}

func allRules() []rule {
	return slices.Concat(
		targetRules, joinRules, subscriptionRules, orderRules, payloadRules, driverRules, instructionRules, startRules,
		outageRules, deniedRules, observerRules, hookRules, closeRules, loadRules, clusterRules, emitterRules,
	)
}

// Rules returns the rules that Run checks: each rule's text by its name.
func Rules() map[string]string {
	all := make(map[string]string)
	for _, r := range allRules() {
		all[r.name] = r.text
	}
	return all
}

// Run checks every rule, each as a subtest of t.
func Run(t *testing.T, h Harness) {
	t.Helper()
	known := Rules()
	for _, name := range slices.Sorted(maps.Keys(h.Exceptions)) {
		if known[name] == "" {
			t.Errorf("adaptertest: Exceptions names %q, which is no rule", name)
		}
	}
	t.Run("capabilities", func(t *testing.T) { checkLacks(t, h.Lacks) })
	var unchecked []string
	for _, r := range allRules() {
		t.Run(r.name, func(t *testing.T) {
			if why, ok := h.Lacks[r.capability]; ok {
				unchecked = append(unchecked, fmt.Sprintf("%s: the driver lacks %s: %s", r.name, r.capability, why))
				t.Skipf("the driver lacks %s: %s\nThe rule: %s", r.capability, why, r.text)
			}
			if why, ok := h.Exceptions[r.name]; ok {
				unchecked = append(unchecked, fmt.Sprintf("%s: declared exception: %s", r.name, why))
				t.Skipf("declared exception: %s\nThe rule: %s", why, r.text)
			}
			if missing := check(t, h, r); missing != "" {
				unchecked = append(unchecked, fmt.Sprintf("%s: needs %s", r.name, missing))
				t.Skipf("NOT CHECKED: not offered: %s\nThe rule: %s", missing, r.text)
			}
		})
	}
	if len(unchecked) > 0 {
		fmt.Fprintf(os.Stderr, "\n*** adaptertest: %s: %d rules NOT CHECKED:\n\t%s\n\n",
			t.Name(), len(unchecked), strings.Join(unchecked, "\n\t"))
	}
}

// checkLacks fails unless each entry is a capability that some rule needs, and has a reason.
func checkLacks(tb testing.TB, lacks map[Capability]string) {
	tb.Helper()
	for _, c := range slices.Sorted(maps.Keys(lacks)) {
		if c == "" || !slices.ContainsFunc(allRules(), func(r rule) bool { return r.capability == c }) {
			tb.Errorf("adaptertest: Lacks names %q, which is no capability", c)
		}
		if lacks[c] == "" {
			tb.Errorf("adaptertest: Lacks gives no reason for %q", c)
		}
	}
}

// check runs one rule. It returns the needs of the rule that the cluster does not offer.
func check(tb testing.TB, h Harness, r rule) (missing needs) {
	tb.Helper()
	before := goleak.IgnoreCurrent()
	tb.Cleanup(func() { // the first to be registered, so the last to run
		if tb.Failed() {
			return // after a failure, remaining goroutines prove nothing
		}
		if err := goleak.Find(before); err != nil {
			tb.Errorf("THE RULE: Close leaves nothing running: every goroutine has an owner that stops it and waits.\n"+
				"SEEN, after all nodes and the cluster were closed: %v", err)
		}
	})
	b := newBed(tb, h)
	if !b.offers(r.needs) {
		return r.needs
	}
	tb.Cleanup(func() { // after the nodes were closed
		b.report()
		if tb.Failed() {
			tb.Errorf("THE RULE (%s): %s", r.name, r.text)
		}
	})
	if r.needs.faults() {
		b.heartbeat = faultHeartbeat
	}
	r.run(b)
	return ""
}
