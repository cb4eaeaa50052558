package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/crosscast/crosscast"
)

type topCommand struct {
	Interval time.Duration `help:"How often the nodes are asked." default:"2s"`
	Count    int           `help:"End after so many times; 0: never." default:"0"`
}

// Help is shown by top --help.
func (topCommand) Help() string {
	return "The nodes' own counters, and how fast they rise. Each time costs each node one query."
}

// A rate is what a node does in a second, since it was asked before.
type rate struct {
	row
	Delivered float64 `json:"deliveredPerSecond"`
	In        float64 `json:"instructionsInPerSecond"`
	Out       float64 `json:"instructionsOutPerSecond"`
	Bytes     float64 `json:"bytesPerSecond"` // over the link, both ways
}

// Run shows the nodes again and again, until it is interrupted.
func (c *topCommand) Run(ctx context.Context, s *session) error {
	if c.Interval < 100*time.Millisecond {
		return fail(exitUsage, "--interval is %v: it must be at least 100ms", c.Interval)
	}
	if s.Mode != modeCrosscast {
		return fail(exitUsage, "servers of Socket.IO have no counters: top is for the mode crosscast")
	}
	if err := s.meet(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	var before sample
	for left := c.Count; ; {
		census, err := s.takeCensus(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := sample{time.Now(), census, make(map[crosscast.NodeID]crosscast.Stats)}
		for _, n := range census.Nodes {
			now.stats[n.ID] = n.Stats
		}
		if err := s.showTop(now, before); err != nil {
			return err
		}
		if left--; left == 0 {
			return incomplete(census.Missing)
		}
		before = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// A sample is what the nodes have answered at some time.
type sample struct {
	at     time.Time
	census *census
	stats  map[crosscast.NodeID]crosscast.Stats
}

// rates compares two samples. A node that was not in the one before has no rates yet.
func rates(now, before sample) []rate {
	seconds := now.at.Sub(before.at).Seconds()
	all := make([]rate, 0, len(now.census.Nodes))
	for _, n := range now.census.Nodes {
		r := rate{row: n}
		if old, ok := before.stats[n.ID]; ok {
			rise := func(now, old uint64) float64 { return float64(now-old) / seconds }
			r.Delivered = rise(n.Stats.Delivered, old.Delivered)
			r.In = rise(n.Stats.InstructionsIn, old.InstructionsIn)
			r.Out = rise(n.Stats.InstructionsOut, old.InstructionsOut)
			r.Bytes = rise(n.Stats.Adapter.BytesIn+n.Stats.Adapter.BytesOut, old.Adapter.BytesIn+old.Adapter.BytesOut)
		}
		all = append(all, r)
	}
	return all
}

func (s *session) showTop(now, before sample) error {
	all := rates(now, before)
	if s.JSON {
		return json.NewEncoder(s.out).Encode(map[string]any{"at": now.at, "nodes": all, "missing": now.census.Missing})
	}
	if f, ok := s.out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(f, "\x1b[H\x1b[2J") // a clear screen
		}
	}
	sockets := 0
	for _, r := range all {
		sockets += r.Stats.Sockets
	}
	fmt.Fprintf(s.out, "%s  %s  %s of %q, %s\n", now.at.Format("15:04:05"), s.where(), counted(len(all), "node"), s.Prefix,
		counted(sockets, "socket"))
	t := newTable(s.out, "NAME", "LINK", "SOCKETS", "DELIVERED/S", "IN/S", "OUT/S", "KB/S", "QUEUE", "GAPS", "LOSSES", "ECHO")
	for _, r := range all {
		st := &r.Stats
		t.row(r.Name, r.State, st.Sockets, number0(r.Delivered), number0(r.In), number0(r.Out), number0(r.Bytes/1000),
			bytesText(int64(st.QueueBytes)), st.Gaps, st.Losses, rounded(st.Adapter.EchoRoundTrip))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, m := range now.census.Missing {
		fmt.Fprintf(s.out, "no answer of %s\n", shown(m.String()))
	}
	return nil
}

func number0(f float64) string { return fmt.Sprintf("%.0f", f) }
