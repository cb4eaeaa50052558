package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// An entry is a line of the file of answers.
type entry struct {
	At    time.Time `json:"at"`
	Fault int       `json:"fault"` // from 1; 0: before the first
	What  string    `json:"what"`  // begins, guess, ends, healed
	Text  string    `json:"text,omitempty"`
}

// The events of a fault.
const (
	begins = "begins"
	guess  = "guess"
	ends   = "ends"
	healed = "healed"
)

// answers is a file with one entry a line, sealed by base64 against a look by accident. Its methods may be called
// concurrently.
type answers struct {
	mu    sync.Mutex // guards the fields below
	file  *os.File
	fault int // the present one
}

func newAnswers(path string) (*answers, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	return &answers{file: file}, err
}

func (a *answers) close() error { return a.file.Close() }

// begin writes that the next fault begins.
func (a *answers) begin(text string) (number int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault++
	return a.fault, a.writeLocked(begins, text)
}

// write writes what has happened to the present fault.
func (a *answers) write(what, text string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writeLocked(what, text)
}

func (a *answers) writeLocked(what, text string) error {
	b, err := json.Marshal(entry{time.Now(), a.fault, what, text})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.file, base64.StdEncoding.EncodeToString(b))
	return err
}

// readAnswers opens a file of answers.
func readAnswers(path string) (all []entry, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		b, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s is no file of answers: %w", path, err)
		}
		var e entry
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, fmt.Errorf("%s is no file of answers: %w", path, err)
		}
		all = append(all, e)
	}
	return all, lines.Err()
}

// printAnswers prints a table of the faults, and what was guessed of each.
func printAnswers(path string, out io.Writer) error {
	all, err := readAnswers(path)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "| fault | began | what it was | guesses | all was well again |\n|---|---|---|---|---|")
	var began, ended time.Time
	var guesses []string
	var line string
	flush := func(well string) {
		if line != "" {
			fmt.Fprintf(out, "%s %s | %s |\n", line, strings.Join(guesses, "; "), well)
		}
		line, guesses = "", nil
	}
	for _, e := range all {
		switch e.What {
		case begins:
			flush("")
			began = e.At
			line = fmt.Sprintf("| %d | %s | %s |", e.Fault, e.At.Format("15:04:05"), e.Text)
		case guess:
			text := strings.ReplaceAll(e.Text, "|", "/")
			guesses = append(guesses, fmt.Sprintf("after %.0f s: %s", e.At.Sub(began).Seconds(), text))
		case ends:
			ended = e.At
		case healed:
			flush(fmt.Sprintf("after %.0f s", e.At.Sub(ended).Seconds()))
		}
	}
	flush("")
	return nil
}
