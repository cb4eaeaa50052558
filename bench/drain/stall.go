//go:build unix

package main

import (
	"fmt"
	"sync"
	"time"
)

// A stall is a time in which the process, or one of its timers, stood still.
type stall struct {
	At    time.Time
	Lasts time.Duration
}

var (
	stallMu sync.Mutex
	stalled []stall
)

// watchStalls notes for the rest of the process when a timer of 10 ms is late by 30 ms or more.
func watchStalls() {
	const tick, late = 10 * time.Millisecond, 30 * time.Millisecond
	for {
		before := time.Now()
		time.Sleep(tick)
		if lasts := time.Since(before) - tick; lasts > late {
			stallMu.Lock()
			stalled = append(stalled, stall{before, lasts})
			stallMu.Unlock()
		}
	}
}

func stalls() []stall {
	stallMu.Lock()
	defer stallMu.Unlock()
	return stalled
}

// printStalls prints how long a process stood still after the drain had begun.
func printStalls(who string, all []stall, began time.Time) {
	var sum, most time.Duration
	count := 0
	var when time.Duration
	for _, s := range all {
		if s.At.Before(began) {
			continue
		}
		count++
		sum += s.Lasts
		if s.Lasts > most {
			most, when = s.Lasts, s.At.Sub(began)
		}
	}
	fmt.Printf("%s stood still %d times, for at most %v (after %.1f s), %v in all\n",
		who, count, most.Round(time.Millisecond), when.Seconds(), sum.Round(time.Millisecond))
}
