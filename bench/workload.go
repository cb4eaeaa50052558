package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A workload is one thing that is measured.
type workload struct {
	name        string // a part after "-" is a variant: W0-100
	title       string
	quick       bool // part of a quick run
	config      config
	metrics     []metric
	contestants []contestant // the first is crosscast, with which the others are compared
	goals       []goal
	most        int                                                  // rounds at most, unless the command line has a number; 0: any number
	warm        time.Duration                                        // before it is measured; 0: half a span
	prepare     func(ctx context.Context, b *bench, c *config) error // completes the config, if set
	measure     func(ctx context.Context, r *run) (values, error)
}

// A contestant is one way of doing what a workload measures.
type contestant struct {
	name  string
	what  string
	roles map[string]role
	set   func(*config) // optional: what is special about its config
	slow  bool          // not part of a quick run

	command []string // a program that plays the roles, in the place of this one
	as      string   // the contestant that the program plays; empty: its name
}

// A metric is one figure of a run.
type metric struct {
	key    string // in values
	title  string // with the unit
	digits int    // behind the decimal point
	less   bool   // is better
}

// A goal is a bound of a ratio: one contestant's figure to another's.
type goal struct {
	metric  string
	against string // empty: the bound is one of the figure itself
	atMost  bool
	bound   float64
	of      string // the contestant whose figure it is; empty: crosscast
}

// beside adds the same goals for a limit that does only this one thing. If it misses them too, they are out of reach.
func beside(limit string, goals ...goal) []goal {
	for _, g := range goals {
		g.of = limit
		goals = append(goals, g)
	}
	return goals
}

// values are the figures of one run, by the key of the metric.
type values map[string]float64

// config is what the processes of a run are told.
type config struct {
	Workload   string
	Contestant string
	Role       string
	Run        string // names what is on Redis: no run meets another
	Redis      string // address
	NATS       string // address
	OverNATS   bool
	Server     string // address
	Profile    string // directory

	Window  int           // messages under way, at most
	Size    int           // bytes of a payload
	JSON    bool          // the payload is a JSON string, and not binary
	Sealed  bool          // crosscast's frames are
	Raw     bool          // JSON is handed to crosscast as it is, and not as a value of Go
	Rate    float64       // messages a second; 0: as many as the window allows
	Tick    time.Duration // that the publisher sleeps at least, if it has a rate
	Stamp   bool          // messages carry the time of their sending
	Rooms   int           // that messages go to, round robin
	Clients int
	Stalled int // of Clients: read nothing
	TLS     bool
	Span    time.Duration // how long a process that is alone measures
	Ping    time.Duration // between two pings of a server; 0: its default
	Path    string        // that clients request; empty: /
	Answers int           // frames that a client reads before it counts
	Hello   string        // that a client sends first
	Each    string        // what each message has once, if a client's frame might have none or several
	Index   int           // of a process among those of its role
	N       int           // what else the workload counts
}

// workloads are all that there are.
func workloads() []workload {
	return slices.Concat(lastClient(), socketIOClients(), latency(), stalledClient(), manyConnections(), hotRoom(), payloads(), manyRooms(),
		walk(), membership(), subscriptions(), scaleOut(), foreignWire(), quietNodes(),
		besideRedis())
}

func named(name string) *workload {
	all := workloads()
	i := slices.IndexFunc(all, func(w workload) bool { return w.name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func (w *workload) contestant(name string) *contestant {
	i := slices.IndexFunc(w.contestants, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &w.contestants[i]
}

// family is the workload's name without the variant.
func (w *workload) family() string {
	family, _, _ := strings.Cut(w.name, "-")
	return family
}
