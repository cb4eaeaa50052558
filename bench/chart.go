package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// charts writes a chart of each section's first metric.
func (r *report) charts(dir string) error {
	for _, s := range r.Sections {
		note := fmt.Sprintf("medians of %d rounds, lines from lowest to highest; %s, %d CPUs, %s", r.Rounds, r.Go, r.CPUs, r.Date)
		if r.Quick {
			note = "quick run; " + note
		}
		file := filepath.Join(dir, "speed-"+strings.ToLower(s.Name)+".svg")
		if err := os.WriteFile(file, []byte(s.chart(note)), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// The measures of a chart, in pixels.
const (
	chartWidth  = 760
	labelWidth  = 350
	figureWidth = 100
	barHeight   = 18
	rowHeight   = 28
	headHeight  = 56
	footHeight  = 30
)

// Colours that are set for light pages, and again for dark ones.
const chartStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.note { font-size: 11px; fill: #59636e }
.bar { fill: #8c959f }
.own { fill: #0969da }
.spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
	text { fill: #f0f6fc }
	.note { fill: #9198a1 }
	.bar { fill: #656c76 }
	.own { fill: #4493f8 }
	.spread { stroke: #f0f6fc }
}
</style>
`

// plainLabel is a text without Markdown.
func plainLabel(what string) string { return strings.NewReplacer("*", "", "`", "").Replace(what) }

// chart is an SVG picture with a bar for each contestant.
func (s *section) chart(note string) string {
	m := s.Metrics[0]
	most := 0.0
	for _, l := range s.Lines {
		if v := l.Values[m.Key]; len(v) > 0 {
			most = max(most, slices.Max(v))
		}
	}
	if most == 0 {
		most = 1
	}
	better := "more is better"
	if m.Less {
		better = "less is better"
	}
	height := headHeight + rowHeight*len(s.Lines) + footHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n",
		chartWidth, height, chartWidth, height)
	b.WriteString(chartStyle)
	fmt.Fprintf(&b, `<title>%s</title>`+"\n", html.EscapeString(s.Name+": "+s.Title))
	fmt.Fprintf(&b, `<text class="title" x="8" y="22">%s</text>`+"\n", html.EscapeString(strings.ToUpper(s.Title[:1])+s.Title[1:]))
	fmt.Fprintf(&b, `<text class="note" x="8" y="42">%s; %s</text>`+"\n", html.EscapeString(m.Title), better)
	scale := float64(chartWidth-labelWidth-figureWidth) / most
	for i, l := range s.Lines {
		v := l.Values[m.Key]
		if len(v) == 0 {
			continue
		}
		y := headHeight + rowHeight*i
		class := "bar"
		if l.Name == ownName {
			class = "bar own"
		}
		fmt.Fprintf(&b, `<text x="8" y="%d">%s</text>`+"\n", y+14, html.EscapeString(plainLabel(l.What)))
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			class, labelWidth, y, median(v)*scale, barHeight)
		fmt.Fprintf(&b, `<line class="spread" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n",
			labelWidth+slices.Min(v)*scale, labelWidth+slices.Max(v)*scale, y+barHeight/2, y+barHeight/2)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", labelWidth+slices.Max(v)*scale+6, y+14, number(median(v), m.Digits))
	}
	fmt.Fprintf(&b, `<text class="note" x="8" y="%d">%s</text>`+"\n", height-10, html.EscapeString(note))
	b.WriteString("</svg>\n")
	return b.String()
}
