package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
)

// Measures of the plot, in pixels.
const (
	plotLabel  = 330 // width of the loads' names
	plotWidth  = 560 // of the axis
	plotRow    = 18
	plotTop    = 62 // above the first row of a panel: title, legend, axis
	plotBottom = 16
)

// The axis does not go beyond these powers of two; dots that lie farther out
// are drawn at its end.
const plotLeast, plotMost = -5, 6

var plotColours = []string{"#1b6ca8", "#d1495b", "#3a7d44", "#e09f3e", "#6a4c93", "#2a9d8f", "#8d6b48"}

// SVG writes a plot of the ratios: one panel for each subject, one line for
// each load, one dot for each other peer, on a logarithmic axis. Right of the
// line at 1 the subject is better. Loads that nobody else ran are left out.
func (r *Report) SVG(w io.Writer) error {
	lo, hi := r.plotRange()
	p := &plot{report: r, lo: lo, hi: hi}
	for _, s := range r.Subjects {
		p.panel(s)
	}
	_, err := fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n%s</svg>\n", plotLabel+plotWidth+30, p.y+8, p.out.Bytes())
	return err
}

// plotRange returns the powers of two, as exponents, between which all ratios
// lie, and 1/2 and 2.
func (r *Report) plotRange() (lo, hi float64) {
	least, most := 0.5, 2.0
	for i := range r.Loads {
		for _, pair := range r.Pairs() {
			if x := r.Loads[i].Ratio(pair.Subject, pair.Other); x > 0 {
				least, most = min(least, x), max(most, x)
			}
		}
	}
	return max(math.Floor(math.Log2(least)), plotLeast), min(math.Ceil(math.Log2(most)), plotMost)
}

// plot draws below y.
type plot struct {
	report *Report
	lo, hi float64 // of the axis, binary logarithms
	y      int
	out    bytes.Buffer
}

func (p *plot) x(ratio float64) float64 {
	octaves := min(max(math.Log2(ratio), p.lo), p.hi) - p.lo
	return plotLabel + plotWidth*octaves/(p.hi-p.lo)
}

// text writes escaped text at a place.
func (p *plot) text(x float64, y int, attributes, s string) {
	fmt.Fprintf(&p.out, "<text x=\"%.1f\" y=\"%d\" %s>", x, y, attributes)
	_ = xml.EscapeText(&p.out, []byte(s)) // a buffer takes all
	p.out.WriteString("</text>\n")
}

func (p *plot) panel(subject string) {
	var pairs []Pair
	for _, pair := range p.report.Pairs() {
		if pair.Subject == subject {
			pairs = append(pairs, pair)
		}
	}
	var rows []*Row
	for i := range p.report.Loads {
		row := &p.report.Loads[i]
		for _, pair := range pairs {
			if row.Ratio(pair.Subject, pair.Other) > 0 {
				rows = append(rows, row)
				break
			}
		}
	}
	if len(rows) == 0 {
		return
	}
	p.legend(subject, pairs)
	p.axis(len(rows))
	p.y += plotTop
	for _, row := range rows {
		p.row(row, pairs)
	}
	p.y += plotBottom
}

func (p *plot) legend(subject string, pairs []Pair) {
	p.text(8, p.y+20, `font-weight="bold"`, subject+": how many times as good as")
	x := float64(plotLabel)
	for i, pair := range pairs {
		p.dot(x, p.y+16, i, pair.Other)
		p.text(x+8, p.y+20, "", pair.Other)
		x += 28 + 7*float64(len(pair.Other))
	}
}

func (p *plot) axis(rows int) {
	top, bottom := p.y+plotTop-10, p.y+plotTop+rows*plotRow
	for e := p.lo; e <= p.hi; e++ {
		x, colour := p.x(math.Exp2(e)), "#dddddd"
		if e == 0 {
			colour = "#333333"
		}
		fmt.Fprintf(&p.out, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\"/>\n", x, top, x, bottom, colour)
		p.text(x, top-6, `text-anchor="middle" fill="#555555"`, fmt.Sprintf("%g", math.Exp2(e)))
	}
}

func (p *plot) row(row *Row, pairs []Pair) {
	p.text(plotLabel-10, p.y+plotRow/2+4, `text-anchor="end"`, row.Load)
	for i, pair := range pairs {
		if x := row.Ratio(pair.Subject, pair.Other); x > 0 {
			p.dot(p.x(x), p.y+plotRow/2, i, fmt.Sprintf("%s, %s: %.2f", row.Load, pair, x))
		}
	}
	p.y += plotRow
}

// dot draws the mark of the i-th other peer; title is shown under a pointer.
func (p *plot) dot(x float64, y, i int, title string) {
	fmt.Fprintf(&p.out, "<circle cx=\"%.1f\" cy=\"%d\" r=\"4\" fill=\"%s\"><title>", x, y, plotColours[i%len(plotColours)])
	_ = xml.EscapeText(&p.out, []byte(title))
	p.out.WriteString("</title></circle>\n")
}
