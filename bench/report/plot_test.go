package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// parsed is what a reader of the plot sees: dots by their titles, and texts.
type parsed struct {
	dots  map[string]float64 // title: x
	texts []string
	lines []float64 // x
}

func parseSVG(t *testing.T, svg []byte) parsed {
	t.Helper()
	p := parsed{dots: map[string]float64{}}
	var x float64
	var in string
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		switch e := token.(type) {
		case xml.StartElement:
			in = e.Name.Local
			for _, a := range e.Attr {
				if a.Name.Local == "cx" || a.Name.Local == "x1" {
					if x, err = strconv.ParseFloat(a.Value, 64); err != nil {
						t.Fatal(err)
					}
				}
			}
			if in == "line" {
				p.lines = append(p.lines, x)
			}
		case xml.CharData:
			switch in {
			case "title":
				p.dots[string(e)] = x
			case "text":
				p.texts = append(p.texts, string(e))
			}
		case xml.EndElement:
			in = ""
		}
	}
}

// TestSVG reads the plot back: every known ratio has its dot at its place on
// a logarithmic axis, here from 1/2 to 8.
func TestSVG(t *testing.T) {
	var out, again bytes.Buffer
	if err := errors.Join(sample().SVG(&out), sample().SVG(&again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same report gives another plot")
	}
	p := parseSVG(t, out.Bytes())
	at := func(octaves float64) float64 { return plotLabel + plotWidth*octaves/4 }
	for title, want := range map[string]float64{
		"write, a / c: 4.00": at(3), "write, b / a: 0.50": at(0), "write, b / c: 2.00": at(2),
		"scan <cold>, a / c: 4.00": at(3), "scan <cold>, a / d: 0.50": at(0), "scan <cold>, b / a: 2.00": at(2),
		"scan <cold>, b / c: 8.00": at(4), "scan <cold>, b / d: 1.00": at(1),
	} {
		if got, ok := p.dots[title]; !ok || got != want {
			t.Errorf("%s at %v, %v, want %v", title, got, ok, want)
		}
	}
	if want := 8 + 3; len(p.dots) != want { // and the legends' c, d, a
		t.Errorf("%d dots, want %d: %v", len(p.dots), want, slices.Sorted(maps.Keys(p.dots)))
	}
	for _, text := range p.texts {
		if text == "sync" || text == "calls" {
			t.Errorf("%s has no ratio and a line", text)
		}
	}
	if !slices.Contains(p.lines, at(1)) {
		t.Errorf("no line at 1: %v", p.lines)
	}
}

// TestSVGFarOut: a ratio of a million does not squeeze the others.
func TestSVGFarOut(t *testing.T) {
	r := &Report{Subjects: []string{"a"}, Peers: []string{"a", "b"}}
	for load, rate := range map[string]float64{"fast": 1e6, "slow": 1e-6, "same": 1} {
		row := r.AddRow("g", load, "op/s", false)
		row.Runs("a").Add(rate, nil)
		row.Runs("b").Add(1, nil)
	}
	var out bytes.Buffer
	if err := r.SVG(&out); err != nil {
		t.Fatal(err)
	}
	p := parseSVG(t, out.Bytes())
	for title, want := range map[string]float64{"slow, a / b: 0.00": plotLabel, "fast, a / b: 1000000.00": plotLabel + plotWidth} {
		if p.dots[title] != want {
			t.Errorf("%s at %v, want %v", title, p.dots[title], want)
		}
	}
	if got, want := p.dots["same, a / b: 1.00"], plotLabel+plotWidth*5/11.; got-want > 0.1 || want-got > 0.1 {
		t.Errorf("1 at %v, want %v", got, want)
	}
}
