package books_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast/faults/books"
)

const ms = int64(time.Millisecond)

// at are entries a, which sends five emissions to a room that b is in, one each 100 ms.
func begin() []books.Entry {
	return []books.Entry{
		{At: 1, Is: books.Begin, Run: &books.Run{Row: "1", Heartbeat: 250 * time.Millisecond}},
		{At: 2, Is: books.Start, Node: "A", Text: "a"},
		{At: 2, Is: books.Start, Node: "B", Text: "b"},
		{At: 3, Is: books.Join, Node: "B", Room: "room"},
		{At: 10 * ms, Is: books.Sent, Node: "A", Room: "room", From: 1, To: 5,
			Times: []int64{10 * ms, 110 * ms, 210 * ms, 310 * ms, 410 * ms}},
	}
}

func got(from, to int64) books.Entry {
	return books.Entry{At: 600 * ms, Is: books.Got, Node: "B", Origin: "A", Room: "room", From: from, To: to}
}

func gap(since, until int64, change ...func(*books.Gap)) books.Entry {
	g := &books.Gap{Origin: "A", Rooms: []string{"room"}, Since: since * ms, Until: until * ms, Reason: "hole"}
	for _, f := range change {
		f(g)
	}
	return books.Entry{At: 600 * ms, Is: books.GapOf, Node: "B", Gap: g}
}

func permit(a books.Allow) books.Entry { return books.Entry{Is: books.Permit, Allow: &a} }

func TestBalance(t *testing.T) {
	any := permit(books.Allow{})
	for name, tt := range map[string]struct {
		entries []books.Entry
		want    string // part of the only problem; empty: the books balance
	}{
		"all":                      {entries: []books.Entry{got(1, 5)}},
		"a copy":                   {[]books.Entry{got(1, 5), got(5, 5)}, "a copy, or out of order"},
		"out of order":             {[]books.Entry{any, got(1, 1), gap(110, 210), got(3, 5), got(2, 2)}, "out of order"},
		"a silent hole":            {[]books.Entry{got(1, 2), got(4, 5)}, "SILENT"},
		"a silent end":             {[]books.Entry{got(1, 4)}, "SILENT"},
		"never sent":               {[]books.Entry{got(1, 6)}, "never sent"},
		"a gap in its place":       {entries: []books.Entry{any, got(1, 2), gap(200, 300), got(4, 5)}},
		"a gap too late":           {[]books.Entry{any, got(1, 2), got(4, 5), gap(200, 300)}, "SILENT"},
		"a gap too early":          {[]books.Entry{any, gap(200, 300), got(1, 2), got(4, 5)}, "SILENT"},
		"a gap of another room":    {[]books.Entry{any, got(1, 2), gap(200, 300, func(g *books.Gap) { g.Rooms = []string{"x"} }), got(4, 5)}, "SILENT"},
		"a gap of another node":    {[]books.Entry{any, got(1, 2), gap(200, 300, func(g *books.Gap) { g.Origin = "B" }), got(4, 5)}, "SILENT"},
		"a gap of all":             {entries: []books.Entry{any, got(1, 2), gap(200, 300, func(g *books.Gap) { g.Origin, g.All = "", true }), got(4, 5)}},
		"a gap that goes on":       {entries: []books.Entry{any, got(1, 1), gap(100, 0), got(3, 3), got(5, 5)}},
		"heard before":             {entries: []books.Entry{{Is: books.Heard, Node: "B", Origin: "A", Room: "room", To: 2}, got(3, 5)}},
		"a copy of what was heard": {[]books.Entry{{Is: books.Heard, Node: "B", Origin: "A", Room: "room", To: 2}, got(2, 5)}, "a copy"},
		"refused":                  {entries: []books.Entry{{Is: books.Sent, Node: "A", Room: "room", From: 3, To: 3, Failed: []int64{3}}, got(1, 2), got(4, 5)}},
		"killed":                   {entries: []books.Entry{got(1, 2), {Is: books.Gone, Node: "B"}}},
		"an unexplained gap":       {[]books.Entry{got(1, 5), gap(200, 210)}, "OVER-REPORT"},
		"a gap of another reason":  {[]books.Entry{permit(books.Allow{Reasons: []string{"loss"}}), got(1, 5), gap(200, 210)}, "OVER-REPORT"},
		"a gap of another's room":  {[]books.Entry{permit(books.Allow{Rooms: []string{"x"}}), got(1, 5), gap(200, 210)}, "OVER-REPORT"},
		"a gap of all rooms":       {[]books.Entry{permit(books.Allow{Rooms: []string{"room"}}), got(1, 5), gap(200, 210, func(g *books.Gap) { g.All = true })}, "OVER-REPORT"},
		"a gap of another origin":  {[]books.Entry{permit(books.Allow{Origins: []string{"b"}}), got(1, 5), gap(200, 210)}, "OVER-REPORT"},
		"a gap at another node":    {[]books.Entry{permit(books.Allow{Nodes: []string{"a"}}), got(1, 5), gap(200, 210)}, "OVER-REPORT"},
		"too many gaps":            {[]books.Entry{permit(books.Allow{Most: 1}), got(1, 5), gap(200, 210), gap(200, 210)}, "OVER-REPORT"},
		"a gap that is too long":   {[]books.Entry{any, got(1, 2), gap(-600, 300), got(4, 5)}, "longer than what was missed"},
		"a gap that is long":       {entries: []books.Entry{any, got(1, 2), gap(-200, 300), got(4, 5)}},
		"a gap that Redis held":    {entries: []books.Entry{permit(books.Allow{Stood: true}), {At: 100 * ms, Is: books.Fault}, {At: 500 * ms, Is: books.Mended}, got(1, 2), gap(-800, 300), got(4, 5)}},
		"and one too long":         {[]books.Entry{permit(books.Allow{Stood: true}), {At: 100 * ms, Is: books.Fault}, {At: 500 * ms, Is: books.Mended}, got(1, 2), gap(-1000, 300), got(4, 5)}, "longer than"},
		"a long gap, a long fault": {entries: []books.Entry{any, {At: -500 * ms, Is: books.Fault}, {At: 20 * ms, Is: books.Mended}, got(1, 2), gap(-600, 300), got(4, 5)}},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(begin(), tt.entries...)
			r := books.Balance(all)
			switch {
			case tt.want == "" && len(r.Problems) > 0:
				t.Errorf("problems: %q", r.Problems)
			case tt.want != "" && (len(r.Problems) != 1 || !strings.Contains(r.Problems[0], tt.want)):
				t.Errorf("problems: %q, want one with %q", r.Problems, tt.want)
			}
			if again := books.Balance(replay(t, all)); !reflect.DeepEqual(again, r) {
				t.Errorf("from its file the ledger balances differently: %+v, and it was %+v", again, r)
			}
		})
	}
}

// replay writes a ledger, and reads it.
func replay(t *testing.T, all []books.Entry) []books.Entry {
	t.Helper()
	var file bytes.Buffer
	l := books.NewLedger(&file)
	for _, e := range all {
		l.Add(e)
	}
	read, err := books.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if all[i].At == 0 { // Add enters the time
			all[i].At = read[i].At
		}
	}
	if !reflect.DeepEqual(read, l.Entries()) {
		t.Error("the ledger is not what was written")
	}
	return read
}

func TestRecovery(t *testing.T) {
	all := append(begin(),
		books.Entry{At: 50 * ms, Is: books.Fault}, books.Entry{At: 200 * ms, Is: books.Mended},
		permit(books.Allow{}), got(1, 1), gap(100, 210), got(3, 5))
	r := books.Balance(all)
	if r.Recovery != 400*time.Millisecond || r.Heard != 1 || r.Missed != 1 {
		t.Errorf("recovery after %v, %d pairs, %d missed", r.Recovery, r.Heard, r.Missed)
	}
}

func TestWait(t *testing.T) {
	l := books.NewLedger(&bytes.Buffer{})
	go l.Add(books.Entry{Is: books.Fault, Text: "x"})
	if e, ok := l.Wait(0, time.Minute, func(e *books.Entry) bool { return e.Is == books.Fault }); !ok || e.Text != "x" || e.At == 0 {
		t.Errorf("%+v, %v", e, ok)
	}
	if _, ok := l.Wait(1, time.Millisecond, func(*books.Entry) bool { return true }); ok {
		t.Error("there is no second entry")
	}
}
