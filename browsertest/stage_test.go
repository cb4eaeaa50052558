package browsertest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast/internal/programtest"
)

// TestChatStage: both servers of the chat side by side. One of them is stopped and started, and so is Redis. The pages say
// what might be missing, and go on. With SCREENSHOTS it makes the animated picture of the README.
func TestChatStage(t *testing.T) {
	program := programtest.Start(t, exec.Command(programtest.Build(t, "../examples/chat")))
	url := program.Printed(`open (http://localhost:\d+):`)
	// The frames are of other origins, and this test reaches into them.
	tab, closeBrowser := startBrowser(t, findBrowser(t), chromedp.Flag("disable-web-security", true))
	defer closeBrowser()
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	s := &stage{page: &page{t, tab, "stage"}}
	s.resize(1000, 960)
	s.sees("#s0", "Stop server-1")
	for i := range 2 {
		s.until(i, `document.querySelector("#status.up") !== null`)
		s.until(i, `(document.querySelector("#join").requestSubmit(), true)`)
		s.until(i, `document.querySelector("#log .note") !== null`)
	}
	for i := range 2 {
		s.until(i, `document.querySelectorAll("#online li").length > 1`) // both pages, and the clients of the program
	}
	s.film()
	s.say(0, "hello from the left")
	s.film()
	s.say(1, "hello from the right")
	s.film()

	s.click("#s1")
	s.sees("#s1", "Start server-2")
	s.until(1, has("#server .bad", "it does not answer"))
	s.film()
	s.write(0, "is anybody there?")
	s.until(0, has("#log .message", "is anybody there?"))
	s.film()
	s.click("#s1")
	s.sees("#s1", "Stop server-2")
	s.until(1, has("#log .gap", "this page was disconnected"))
	s.film()
	s.say(1, "what did I miss?")
	s.film()

	s.click("#redis")
	s.sees("#redis", "Start Redis")
	for i := range 2 {
		s.until(i, has("#server .bad", "link to the bus: down"))
	}
	s.film()
	s.click("#redis")
	s.sees("#redis", "Stop Redis")
	for i := range 2 {
		s.until(i, has("#log .gap", "the server missed something"))
		s.until(i, has("#server", "link to the bus: up"))
	}
	s.say(0, "and on we go")
	s.film()
	s.save("chat.gif")
	program.Stop(os.Interrupt)
}

// has is a condition in a frame: an element that selector names has a text that contains want.
func has(selector, want string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.textContent.includes(%q))`, selector, want)
}

// A stage is the page with the pages of both servers in frames.
type stage struct {
	*page
	shots []image.Image
}

// until waits until a condition in a frame is true.
func (s *stage) until(frame int, condition string) {
	s.t.Helper()
	script := fmt.Sprintf(`(document => !!document && (%s))(document.querySelector("#f%d").contentDocument)`, condition, frame)
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(20 * time.Millisecond) { // poll
		if run(s.page, "evaluating "+condition, chromedp.Evaluate[bool](script)) {
			return
		}
	}
	s.t.Fatalf("frame %d: in vain: %s", frame, condition)
}

func (s *stage) write(frame int, text string) {
	s.t.Helper()
	s.until(frame, fmt.Sprintf(`(document.querySelector("#text").value = %q, document.querySelector("#send").requestSubmit(), true)`, text))
}

// say writes in one frame, and waits until both show it.
func (s *stage) say(frame int, text string) {
	s.t.Helper()
	s.write(frame, text)
	for i := range 2 {
		s.until(i, has("#log .message", text))
	}
}

// film adds a picture to the film.
func (s *stage) film() {
	s.t.Helper()
	if os.Getenv("SCREENSHOTS") == "" {
		return
	}
	shot, err := png.Decode(bytes.NewReader(run(s.page, "taking a picture", chromedp.FullScreenshot(100))))
	if err != nil {
		s.t.Fatal(err)
	}
	s.shots = append(s.shots, shot)
}

// save writes the film into the directory that SCREENSHOTS names, with the most frequent colours of all its pictures.
func (s *stage) save(name string) {
	s.t.Helper()
	if len(s.shots) == 0 {
		return
	}
	counts := make(map[color.RGBA]int)
	for _, shot := range s.shots {
		for p := range pixels(shot) {
			counts[color.RGBAModel.Convert(shot.At(p.X, p.Y)).(color.RGBA)]++
		}
	}
	var palette color.Palette
	for c := range counts {
		palette = append(palette, c)
	}
	slices.SortFunc(palette, func(a, b color.Color) int { return counts[b.(color.RGBA)] - counts[a.(color.RGBA)] })
	palette = palette[:min(256, len(palette))]
	nearest := make(map[color.RGBA]uint8)
	for c := range counts {
		nearest[c] = uint8(palette.Index(c))
	}
	film := &gif.GIF{}
	for _, shot := range s.shots {
		frame := image.NewPaletted(shot.Bounds(), palette)
		for p := range pixels(shot) {
			frame.SetColorIndex(p.X, p.Y, nearest[color.RGBAModel.Convert(shot.At(p.X, p.Y)).(color.RGBA)])
		}
		film.Image, film.Delay = append(film.Image, frame), append(film.Delay, 220) // in hundredths of a second
	}
	file, err := os.Create(filepath.Join(os.Getenv("SCREENSHOTS"), name))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := gif.EncodeAll(file, film); err != nil {
		s.t.Error(err)
	}
	if err := file.Close(); err != nil {
		s.t.Error(err)
	}
}

func pixels(i image.Image) func(yield func(image.Point) bool) {
	return func(yield func(image.Point) bool) {
		for y := i.Bounds().Min.Y; y < i.Bounds().Max.Y; y++ {
			for x := i.Bounds().Min.X; x < i.Bounds().Max.X; x++ {
				if !yield(image.Pt(x, y)) {
					return
				}
			}
		}
	}
}
