package sse

import (
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/pace"
)

// misses bound the POSTs of each caller that are refused: for a wrong token, or because too much waits. A token is too long
// to be guessed, but each guess might cost a question to another node.
type misses struct {
	pace *pace.Pace

	mu    sync.Mutex              // guards the fields below
	m     map[string]*pace.Bucket // by caller
	swept time.Time
}

const (
	missRate   = 1 // a second
	missBurst  = 20
	maxCallers = 4096 // further ones share a bucket
)

func (m *misses) init() {
	m.pace = pace.New(missRate, missBurst)
	m.m = make(map[string]*pace.Bucket)
}

// wait returns how long a caller has to wait, because of its misses.
func (m *misses) wait(who string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.m[who]
	if b == nil && len(m.m) > maxCallers {
		b = m.m[""]
	}
	if b == nil {
		return 0
	}
	look := *b
	return m.pace.Take(&look)
}

// add counts a miss.
func (m *misses) add(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.m[who]
	if b == nil {
		if len(m.m) >= maxCallers {
			m.sweepLocked()
		}
		if len(m.m) >= maxCallers {
			who = ""
		}
		if b = m.m[who]; b == nil {
			b = new(pace.Bucket)
			m.m[who] = b
		}
	}
	m.pace.Take(b)
}

// sweepLocked forgets the callers whose misses are long ago, at most once a second.
func (m *misses) sweepLocked() {
	if time.Since(m.swept) < time.Second {
		return
	}
	m.swept = time.Now()
	for who, b := range m.m {
		if m.pace.Empty(b) {
			delete(m.m, who)
		}
	}
}
