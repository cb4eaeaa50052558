package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is what a call of this program has measured. It is also the file that -json writes and -from reads.
type report struct {
	Date     string
	Go       string
	CPUs     int
	Quick    bool // less than the whole, and shorter
	Rounds   int
	Seconds  float64 // that a run measured
	Sections []section
}

// A section is a workload's part of a report. Its first line is the contestant that the others are compared with.
type section struct {
	Name    string
	Title   string
	Metrics []column
	Lines   []line
	Goals   []verdict
}

type column struct {
	Key    string
	Title  string
	Digits int
	Less   bool // is better
}

type line struct {
	Name   string
	What   string
	Values map[string][]float64 // by metric, round by round
}

// A verdict is a goal, and what the paired ratios say of it.
type verdict struct {
	Metric  string
	Of      string // empty: crosscast
	Against string // empty: the bound is one of the figure itself
	AtMost  bool
	Bound   float64
	Ratio   spread
	Met     bool
}

func newReport(b *bench, outcomes []outcome) *report {
	r := &report{
		Date: time.Now().UTC().Format(time.DateOnly), Go: runtime.Version(), CPUs: runtime.NumCPU(),
		Quick: b.quick, Rounds: b.rounds, Seconds: b.span.Seconds(),
	}
	for _, o := range outcomes {
		s := section{Name: o.workload.name, Title: o.workload.title}
		for _, m := range o.workload.metrics {
			s.Metrics = append(s.Metrics, column{m.key, m.title, m.digits, m.less})
		}
		for _, c := range o.workload.contestants {
			l := line{c.name, c.what, make(map[string][]float64)}
			for _, v := range o.results[c.name] {
				for _, m := range o.workload.metrics {
					l.Values[m.key] = append(l.Values[m.key], v[m.key])
				}
			}
			s.Lines = append(s.Lines, l)
		}
		for _, g := range o.workload.goals {
			s.judge(g)
		}
		r.Sections = append(r.Sections, s)
	}
	return r
}

// judge adds a verdict, if both sides of the goal took part.
func (s *section) judge(g goal) {
	name := g.of
	if name == "" {
		name = ownName
	}
	own, other := s.line(name), s.line(g.against)
	if own == nil || other == nil && g.against != "" {
		return
	}
	v := verdict{g.metric, g.of, g.against, g.atMost, g.bound, spreadOf(own.Values[g.metric]), false}
	if other != nil {
		v.Ratio = spreadOf(ratios(own.Values[g.metric], other.Values[g.metric]))
	}
	v.Met = v.Ratio.Median >= g.bound
	if g.atMost {
		v.Met = v.Ratio.Median <= g.bound
	}
	s.Goals = append(s.Goals, v)
}

func (s *section) line(name string) *line {
	i := slices.IndexFunc(s.Lines, func(l line) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Lines[i]
}

// write prints the report as tables of Markdown.
func (r *report) write(out io.Writer) {
	fmt.Fprintf(out, "\nMedians of %d rounds of %.3g s (lowest to highest). Ratios are medians of the rounds' ratios (95%% of them).\n", r.Rounds, r.Seconds)
	fmt.Fprintf(out, "%s, %d CPUs, %s\n", r.Go, r.CPUs, r.Date)
	if r.Quick {
		fmt.Fprintln(out, "This is a quick run: short, and without many of the workloads and contestants.")
	}
	for i := range r.Sections {
		r.Sections[i].write(out)
	}
}

func (s *section) write(out io.Writer) {
	fmt.Fprintf(out, "\n### %s: %s\n\n", s.Name, s.Title)
	head := []string{"what"}
	for _, m := range s.Metrics {
		head = append(head, m.Title)
	}
	first := s.Lines[0]
	if len(s.Lines) > 1 {
		for _, m := range s.Metrics {
			head = append(head, first.Name+" ÷ it: "+m.Key)
		}
	}
	rows := [][]string{head}
	for _, l := range s.Lines {
		row := []string{fmt.Sprintf("%s (%s)", l.What, l.Name)}
		for _, m := range s.Metrics {
			v := l.Values[m.Key]
			if len(v) == 0 {
				row = append(row, "")
				continue
			}
			row = append(row, fmt.Sprintf("%s (%s to %s)", number(median(v), m.Digits),
				number(slices.Min(v), m.Digits), number(slices.Max(v), m.Digits)))
		}
		for _, m := range s.Metrics {
			if r := ratios(first.Values[m.Key], l.Values[m.Key]); len(r) > 0 && l.Name != first.Name {
				row = append(row, spreadOf(r).String())
			} else {
				row = append(row, "")
			}
		}
		rows = append(rows, row[:len(head)])
	}
	writeTable(out, rows)
	if len(s.Goals) > 0 {
		fmt.Fprintln(out)
	}
	for _, g := range s.Goals {
		fmt.Fprintf(out, "- %s\n", g)
	}
}

func (s spread) String() string {
	digits := 2
	for v := s.Median; v > 0 && v < 0.1 && digits < 6; v *= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f × (%.*f to %.*f)", digits, s.Median, digits, s.Low, digits, s.High)
}

func (v verdict) String() string {
	sign, met := "≥", "missed"
	if v.AtMost {
		sign = "≤"
	}
	if v.Met {
		met = "met"
	}
	what := v.Metric
	if v.Of != "" {
		what += " of " + v.Of
	}
	if v.Against == "" {
		return fmt.Sprintf("goal, %s %s %.3g: %.3g (%.3g to %.3g): %s",
			what, sign, v.Bound, v.Ratio.Median, v.Ratio.Low, v.Ratio.High, met)
	}
	return fmt.Sprintf("goal, %s %s %.3g of %s: %s: %s", what, sign, v.Bound, v.Against, v.Ratio, met)
}

// writeTable prints a table, the first row of which is its head, with columns of even width.
func writeTable(out io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(out, "| %-*s ", widths[i], cell)
		}
		fmt.Fprintln(out, "|")
		if n == 0 {
			for _, w := range widths {
				fmt.Fprint(out, "|", strings.Repeat("-", w+2))
			}
			fmt.Fprintln(out, "|")
		}
	}
}

func (r *report) save(file string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o666)
}

// load reads reports, and joins them: the first file's head, and the sections of all.
func load(files []string) (*report, error) {
	var all *report
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if all == nil {
			all = &r
		} else {
			all.Sections = append(all.Sections, r.Sections...)
		}
	}
	return all, nil
}
