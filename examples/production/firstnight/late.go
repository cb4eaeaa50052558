package main

import (
	"errors"
	"math/rand/v2"
	"time"
)

// lateness is how long the operator is not told of a fault. It is the value of a flag.
type lateness struct{ least, most time.Duration }

// Set reads a time, or "random".
func (l *lateness) Set(text string) error {
	if text == "random" {
		*l = lateness{time.Minute, 5 * time.Minute}
		return nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errors.New("it is below 0")
	}
	*l = lateness{d, d}
	return err
}

func (l *lateness) String() string {
	if l.most > l.least {
		return "random"
	}
	return l.least.String()
}

// draw returns how long it is this time.
func (l *lateness) draw() time.Duration { return l.least + rand.N(l.most-l.least+1) }
