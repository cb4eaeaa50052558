package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		v    []float64
		q    float64
		want float64
	}{
		{nil, 0.5, 0},
		{[]float64{3}, 0.5, 3},
		{[]float64{3}, 0.975, 3},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{0, 100}, 0.975, 97.5},
		{[]float64{1, 2, 3}, 1, 3},
		{[]float64{1, 2, 3}, 0, 1},
	} {
		if got := quantile(test.v, test.q); got != test.want {
			t.Errorf("quantile %v of %v: %v, want %v", test.q, test.v, got, test.want)
		}
	}
}

// TestRatios: the pairs' ratios, and not the ratio of the medians, say which of two is faster on a machine that drifts.
func TestRatios(t *testing.T) {
	s := spreadOf(ratios([]float64{10, 200, 30}, []float64{5, 100, 10, 7}))
	if s.Median != 2 || s.Low != 2 || s.High < 2.9 {
		t.Errorf("%+v", s)
	}
	if r := ratios([]float64{1, 2}, []float64{0, 1}); len(r) != 1 || r[0] != 2 {
		t.Errorf("beside a zero: %v", r)
	}
}

// TestSpread: a small ratio has two digits that say something.
func TestSpread(t *testing.T) {
	for want, s := range map[string]spread{
		"0.50 × (0.10 to 2.00)": {0.5, 0.1, 2}, "0.012 × (0.010 to 0.020)": {0.0123, 0.01, 0.02}, "0.00 × (0.00 to 0.00)": {},
	} {
		if got := s.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]struct {
		v      float64
		digits int
	}{
		"0": {0.4, 0}, "999": {999, 0}, "1,000": {1000, 0}, "1,234,567.9": {1234567.89, 1}, "-1,234": {-1234, 0}, "0.250": {0.25, 3},
	} {
		if got := number(v.v, v.digits); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// sample has three rounds of two contestants.
func sampleReport() *report {
	w := workload{
		name: "W9-x", title: "a <workload>",
		metrics:     []metric{{"rate", "messages/s", 0, false}, {"cpu", "µs each", 2, true}},
		contestants: []contestant{{name: ownName, what: "**crosscast**: `Emit`"}, {name: "limit", what: "the limit, 10 µs at least, and nothing else"}},
		goals: []goal{
			{"rate", "limit", false, 0.5, ""}, {"rate", "limit", false, 0.6, ""}, {"cpu", "limit", true, 2, ""}, {"cpu", "limit", true, 1.9, ""},
			{"rate", "somebody who does not take part", false, 1, ""},
			{"cpu", ownName, true, 0.5, "limit"}, {"cpu", "", true, 3, ""},
		},
	}
	return newReport(&bench{rounds: 3, quick: true}, []outcome{{&w, map[string][]values{
		ownName: {{"rate": 1000, "cpu": 2}, {"rate": 3000, "cpu": 4}, {"rate": 2000, "cpu": 6}},
		"limit": {{"rate": 2000, "cpu": 1}, {"rate": 6000, "cpu": 2}, {"rate": 4000, "cpu": 3}},
	}}})
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	sampleReport().write(&out)
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"This is a quick run",
		"### W9-x: a <workload>",
		"| what | messages/s | µs each | crosscast ÷ it: rate | crosscast ÷ it: cpu |",
		"| **crosscast**: `Emit` (crosscast) | 2,000 (1,000 to 3,000) | 4.00 (2.00 to 6.00) | | |",
		"| the limit, 10 µs at least, and nothing else (limit) | 4,000 (2,000 to 6,000) | 2.00 (1.00 to 3.00) | 0.50 × (0.50 to 0.50) | 2.00 × (2.00 to 2.00) |",
		"goal, rate ≥ 0.5 of limit: 0.50 × (0.50 to 0.50): met",
		"goal, rate ≥ 0.6 of limit: 0.50 × (0.50 to 0.50): missed",
		"goal, cpu ≤ 2 of limit: 2.00 × (2.00 to 2.00): met",
		"goal, cpu of limit ≤ 0.5 of crosscast: 0.50 × (0.50 to 0.50): met",
		"goal, cpu ≤ 1.9 of limit: 2.00 × (2.00 to 2.00): missed",
		"goal, cpu ≤ 3: 4 (2.1 to 5.9): missed",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(got, "take part") {
		t.Errorf("a goal without a contestant:\n%s", out.String())
	}
	lines := strings.Split(out.String(), "\n")
	width := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "|") {
			if n := len([]rune(line)); width != 0 && n != width {
				t.Errorf("rows of %d and %d characters:\n%s", width, n, out.String())
			} else {
				width = n
			}
		}
	}
}

// TestChart checks that a chart is XML, has a bar for each contestant, within its frame, and colours for dark pages.
func TestChart(t *testing.T) {
	r := sampleReport()
	picture := r.Sections[0].chart("a & b")
	bars, own := 0, 0
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, picture)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
			for _, a := range e.Attr {
				if a.Name.Local == "class" && strings.Contains(a.Value, "own") {
					own++
				}
			}
		}
	}
	if bars != 2 || own != 1 {
		t.Errorf("%d bars, %d of them our own:\n%s", bars, own, picture)
	}
	for _, want := range []string{
		"prefers-color-scheme: dark", "A &lt;workload&gt;", "a &amp; b", "more is better", ">crosscast: Emit<",
		`width="103.3"`, // 2000 of at most 6000, which are 310 pixels
		`x2="660.0"`,
	} {
		if !strings.Contains(picture, want) {
			t.Errorf("no %q in:\n%s", want, picture)
		}
	}
	r.Sections[0].Metrics[0].Less = true
	if picture := r.Sections[0].chart(""); !strings.Contains(picture, "less is better") {
		t.Error("less is not better")
	}
}
