package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/latest"
	"github.com/crosscast/crosscast/internal/peername"
	"github.com/crosscast/crosscast/internal/warn"
)

// kept is how many events a Page keeps.
const kept = 200

// An event is one line of the page's log. It has the text of the latest of several that followed each other.
type event struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // gap, loss, link
	Text   string    `json:"text"`
	Before int       `json:"before,omitempty"` // how many of the same cause came before

	cause string // empty: the event has a line of its own
}

// add adds an event.
func (p *Page) add(e event) {
	e.At = time.Now()
	p.events.Add(e, e.follows)
}

// follows makes old the line of e, if e followed it.
func (e *event) follows(old *event) bool {
	if e.cause == "" || old.Kind != e.Kind || old.cause != e.cause || e.At.Sub(old.At) > latest.Near {
		return false
	}
	old.At, old.Text = e.At, e.Text
	old.Before++
	return true
}

// OnGap adds a gap to the events. It is an Options.OnGap, or is called from one.
func (p *Page) OnGap(n *crosscast.Node, g crosscast.Gap) {
	until, cause := "until now", ""
	if !g.Until.IsZero() {
		cause = fmt.Sprint(g.Reason, g.Origin, names(g.Names))
		until = fmt.Sprintf("for %v", g.Until.Sub(g.Since).Round(time.Millisecond))
	}
	p.add(event{Kind: "gap", cause: cause, Text: fmt.Sprintf("%s: messages %s to %s might be missing, since %s, %s",
		g.Reason, origin(n, g.Origin), names(g.Names), g.Since.UTC().Format("15:04:05.000"), until)})
}

// OnLoss adds a loss to the events. It is an Options.OnLoss, or is called from one.
func (p *Page) OnLoss(_ *crosscast.Node, l crosscast.Loss) {
	p.add(event{Kind: "loss", cause: fmt.Sprint(l.Reason, names(l.Names)), Text: fmt.Sprintf(
		"%s: %d emissions to %s did not go out, or might not have: %v", l.Reason, l.Instructions, names(l.Names), l.Err)})
}

// OnLink adds a change of the link to the events. It is an Options.OnLink, or is called from one.
func (p *Page) OnLink(_ *crosscast.Node, s crosscast.LinkStatus) {
	text := fmt.Sprintf("publishing is %s, subscribing is %s", s.Publishing.State, s.Subscribing.State)
	worse := s.Subscribing
	if warn.Rank(string(s.Publishing.State)) > warn.Rank(string(s.Subscribing.State)) {
		worse = s.Publishing
	}
	if worse.Err != nil {
		text += ": " + worse.Err.Error()
	}
	p.add(event{Kind: "link", Text: text})
}

func origin(n *crosscast.Node, id crosscast.NodeID) string {
	if id == "" {
		return "of any server"
	}
	if name := peername.Of(n, id); name != "" {
		return fmt.Sprintf("of %s (%s)", name, id)
	}
	return "of " + string(id)
}

// names lists the first names, and counts the others.
func names(addresses []crosscast.Address) string {
	if addresses == nil {
		return "anybody"
	}
	const shown = 5
	var list []string
	for _, a := range addresses[:min(shown, len(addresses))] {
		switch a.Space {
		case crosscast.SpaceRoom:
			list = append(list, fmt.Sprintf("the room %q", a.Name))
		case crosscast.SpaceUser:
			list = append(list, fmt.Sprintf("the user %q", a.Name))
		default:
			list = append(list, fmt.Sprintf("all of %q", a.Namespace))
		}
	}
	if more := len(addresses) - shown; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}
