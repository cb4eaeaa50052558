package wire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// lines is a slog.Handler that keeps log lines from level Info on, as "LEVEL message: error".
type lines struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *lines) WithGroup(string) slog.Handler                    { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	s := r.Level.String() + " " + strings.TrimPrefix(r.Message, "crosscast: ")
	r.Attrs(func(a slog.Attr) bool {
		s += fmt.Sprint(": ", a.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
	return nil
}

// take returns the lines since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// watched is a peer whose link's states are checked.
type watched struct {
	*peer
	t       *testing.T
	log     *lines
	wasBusy bool // the end of that is not logged
}

// want fails unless the changes since the last call were these, each "publishing/subscribing", and as many lines were
// logged; and unless the adapter says the same.
func (w *watched) want(what string, changes ...string) {
	w.t.Helper()
	w.wantStates(what, changes...)
	logged := w.log.take()
	for _, line := range logged {
		good := strings.HasSuffix(line, "half of the link is live") || strings.Contains(line, " is held") // a consequence
		if good != strings.HasPrefix(line, "INFO ") {
			w.t.Errorf("%s: logged %q", what, line)
		}
	}
	if last := len(changes) - 1; len(logged) != len(changes) && !(last >= 0 && len(logged) == 0 && w.wasBusy) {
		w.t.Errorf("%s: %d changes, and logged were\n%s", what, len(changes), strings.Join(logged, "\n"))
	}
	w.wasBusy = slices.ContainsFunc(changes, func(s string) bool { return strings.HasSuffix(s, "busy") })
}

func (w *watched) wantStates(what string, changes ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	links := w.links
	w.links = nil
	w.mu.Unlock()
	var got []string
	for _, s := range links {
		c := string(s.Publishing.State) + "/" + string(s.Subscribing.State)
		if s.Busy {
			c += " busy"
		}
		got = append(got, c)
		for name, half := range map[string]crosscast.LinkHalf{"publishing": s.Publishing, "subscribing": s.Subscribing} {
			fine := half.State == reasons.LinkLive || half.State == ""
			if fine != (half.Err == nil) && half.State != reasons.LinkConnecting || half.Since.IsZero() != (half.State == "") {
				w.t.Errorf("%s: %s: %+v", what, name, half)
			}
		}
	}
	if !slices.Equal(got, changes) {
		w.t.Errorf("%s:\n got %q\nwant %q", what, got, changes)
	}
	if len(links) == 0 {
		return
	}
	last := links[len(links)-1]
	if s := w.a.AdapterStats(); s.Link != last || s.Connected != last.Live() {
		w.t.Errorf("%s: the adapter says %+v, connected %v; told was %+v", what, s.Link, s.Connected, last)
	}
}

// watching runs f with a peer that is watched, and another one.
func watching(t *testing.T, f func(t *testing.T, c *cluster, w *watched)) {
	log := new(lines)
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		w := &watched{peer: c.add(wire.Options{Logger: slog.New(log)}), t: t, log: log}
		c.beat(0)
		synctest.Wait()
		w.mu.Lock()
		first := w.links
		w.links = nil
		w.mu.Unlock()
		if n := len(first); n != 4 || first[0].Publishing.State != reasons.LinkConnecting ||
			first[1].Subscribing.State != reasons.LinkConnecting || !first[3].Live() {
			t.Errorf("at the start: %+v", first)
		}
		log.take()
		f(t, c, w)
	})
}

func TestStatesOfAnOutage(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		c.beat(3 * time.Second)
		w.want("as it should be")

		w.port.Cut()
		w.want("cut", "held/live", "held/connecting")
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		w.want("made again", "held/live", "live/live")

		w.port.Down()
		synctest.Wait()
		c.beat(30 * time.Second)
		w.want("down for a while", "held/live", "held/connecting", "held/down")
		w.port.Up()
		c.beat(10 * time.Second)
		w.want("back", "held/live", "live/live")
		if s := w.a.AdapterStats(); s.Reconnects != 2 {
			t.Errorf("%d reconnects", s.Reconnects)
		}

		// What goes wrong for the publishing half alone.
		down := fmt.Errorf("%w: scripted", crosscast.ErrRefused)
		w.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: down, Down: true, Lost: true} })
		c.beat(10 * time.Second)
		w.want("refused", "down/live")
		w.port.SetFate(nil)
		c.beat(2 * time.Second)
		w.want("taken again", "live/live")

		w.port.SetLatency(time.Hour) // bounded by PublishTimeout
		c.beat(3900 * time.Millisecond)
		w.want("a standstill", "down/live")
		c.beat(time.Minute)
		if lines := w.log.take(); len(lines) != 1 || !strings.Contains(lines[0], "is down: connected, but ") ||
			!strings.Contains(lines[0], "nothing answers") {
			t.Errorf("each minute the cause is written again: %q", lines)
		}
		w.want("which goes on")
		w.port.SetLatency(0)
		c.beat(6 * time.Second)
		w.want("and ends", "live/live")
	})
}

func TestStatesOfDenial(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		denied := fmt.Errorf("%w: %w: NOPERM scripted", crosscast.ErrRefused, crosscast.ErrDenied)
		only := func(topic string, down bool) {
			w.port.SetFate(func(f wire.Frame) membus.Fate {
				if topic != "" && f.Topic != topic {
					return membus.Fate{}
				}
				return membus.Fate{Err: denied, Down: down, Lost: true}
			})
		}
		only("cc:r:/:secret", false)
		mustPublish(t, w.peer, emitTo("secret"))
		c.beat(2 * time.Second)
		w.want("one room is denied")
		if l := w.lost(); len(l) != 1 || !errors.Is(l[0].Err, crosscast.ErrDenied) {
			t.Errorf("losses %+v", l)
		}

		only("", false)
		c.beat(5 * time.Second)
		w.want("everything is denied", "denied/live")
		w.port.SetFate(nil)
		c.beat(2 * time.Second)
		w.want("allowed again", "live/live")
		only("", true)
		c.beat(5 * time.Second)
		w.want("the login is denied", "denied/live")
		w.port.SetFate(nil)
		c.beat(2 * time.Second)
		w.want("allowed again", "live/live")

		w.port.Refuse(fmt.Errorf("%w: WRONGPASS scripted", crosscast.ErrDenied))
		w.port.Cut()
		synctest.Wait()
		c.beat(20 * time.Second)
		w.want("so is the link's", "held/live", "held/connecting", "held/denied")
		w.port.Up()
		c.beat(10 * time.Second)
		w.want("allowed again", "held/live", "live/live")
	})
}

// TestAFlappingLinkDoesNotFillTheLog: changes beyond a few are counted, and the log ends with the state that holds.
func TestAFlappingLinkDoesNotFillTheLog(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		const flaps = 200
		for range flaps {
			w.port.Cut()
			c.beat(time.Second)
		}
		lines := w.log.take()
		if n := len(lines); n < 20 || n > 2*(10+flaps/10+1) {
			t.Errorf("%d lines", n)
		}
		c.beat(20 * time.Second)
		lines = append(lines, w.log.take()...)
		changes := len(lines)
		last := make(map[string]string)
		for _, line := range lines {
			m := linkLine.FindStringSubmatch(line)
			if m == nil {
				t.Fatal(line)
			}
			last[m[1]] = m[2]
			left, _ := strconv.Atoi(m[3])
			changes += left
		}
		if changes != 4*flaps { // held, connecting, and twice live
			t.Errorf("%d changes in the log, not %d", changes, 4*flaps)
		}
		if last["publishing"] != "live" || last["subscribing"] != "live" {
			t.Errorf("the log ends with %v", last)
		}
	})
}

var linkLine = regexp.MustCompile(`^\w+ the (\w+) half of the link is (\w+)(?:: (\d+))?`)

// After a deaf link, a new link is not live before an echo comes.
func TestStateOfADeafLink(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		c.beat(time.Second)
		w.port.StarveAll(true)
		c.beat(30 * time.Second)
		w.want("deaf", "live/deaf")
		w.port.StarveAll(false)
		c.beat(10 * time.Second)
		w.want("heard", "live/live")
	})
}

func TestStateOfABusyReader(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		subscribe(t, w.peer, "A")
		w.onEmit = func(string) { time.Sleep(10 * time.Second) }
		mustPublish(t, c.peers[0], emitTo("A"))
		c.beat(2 * time.Second)
		w.want("for two heartbeats")
		c.beat(2 * time.Second)
		w.want("for four", "live/live busy")
		if got := w.log.take(); len(got) != 0 {
			t.Error(got)
		}
		c.beat(10 * time.Second)
		w.want("no more", "live/live")
		if len(w.got()) != 1 || len(w.seen()) != 0 {
			t.Errorf("delivered %v, gaps %+v", w.got(), w.seen())
		}
	})
}

// An emitter has no link until it asks something.
func TestStatesOfAnEmitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		p := &peer{id: "emit0000", port: hub.Port("e"), emitOnly: true}
		log := new(lines)
		p.a = wire.New(p.port, wire.Options{Logger: slog.New(log)})
		w := &watched{peer: p, t: t, log: log}
		if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id}, p, true)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		log.take()
		p.mu.Lock()
		p.links = p.links[1:]
		p.mu.Unlock()
		w.wantStates("started", "live/")
		if err := p.a.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantStates("listening", "live/connecting", "live/live")
		p.port.Starve()
		if err := p.a.Listen(t.Context()); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		w.wantStates("deaf", "live/deaf", "live/live")
		if err := p.a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantStates("closed", "down/live", "down/down")
	})
}

// TestALinkThatBreaksWhileItResumes: it is given up before it counts, so nothing says that it is there.
func TestALinkThatBreaksWhileItResumes(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[1]
		c.beat(3 * time.Second)
		b.port.Down()
		synctest.Wait()
		wire.ResumeLate(b.a)
		if s := b.a.AdapterStats(); s.Link.Subscribing.State == reasons.LinkLive || s.Connected || b.a.Proven() {
			t.Errorf("without a link the state is %+v", s.Link)
		}
		if len(b.seen()) != 0 {
			t.Errorf("gaps %+v, and the outage goes on", b.seen())
		}
		b.port.Up()
		c.beat(3 * time.Second)
		if g := b.seen(); len(g) != 1 || !b.a.AdapterStats().Connected {
			t.Errorf("gaps %+v, state %+v", g, b.a.AdapterStats().Link)
		}
	})
}
