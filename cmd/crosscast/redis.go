package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What Redis says of itself, as text.

// fields reads lines of name:value.
func fields(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// pairs reads name=value, separated by spaces.
func pairs(line string) map[string]string {
	m := make(map[string]string)
	for part := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(part, "=")
		m[name] = value
	}
	return m
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// atLeast reports whether a version such as 7.0.15 is at least major.
func atLeast(version string, major int64) bool {
	first, _, _ := strings.Cut(version, ".")
	return number(first) >= major
}

func uptime(seconds string) string {
	d := time.Duration(number(seconds)) * time.Second
	if d >= 48*time.Hour {
		return counted(int(d/(24*time.Hour)), "day")
	}
	return d.String()
}

func rounded(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// maxFrame is the default of redisadapter.Options.MaxFrame.
const maxFrame = 2 << 20

// limits judges client-output-buffer-limit, which is a class, a hard and a soft limit, and seconds, for each class; and
// proto-max-bulk-len, the largest message.
func (e *examination) limits(text, largest string) {
	all := strings.Fields(text)
	for i := 0; i+3 < len(all); i += 4 {
		if all[i] != "pubsub" {
			continue
		}
		hard, soft := number(all[i+1]), number(all[i+2])
		rule := fmt.Sprintf("a subscriber is disconnected when it is %s behind, or %s for %s s",
			bytesText(hard), bytesText(soft), all[i+3])
		const better = "set client-output-buffer-limit pubsub 32mb 8mb 60"
		switch {
		case hard == 0 && soft == 0:
			e.find(note, "buffers", "a subscriber that does not read takes any amount of Redis's memory: %s", better)
		case hard != 0 && hard < 4*maxFrame:
			e.find(fault, "buffers", "%s: a few large messages are enough; %s", rule, better)
		case number(largest) >= hard && hard != 0:
			e.find(note, "buffers", "%s; one message of that size, from anybody, disconnects all: proto-max-bulk-len 4mb "+
				"prevents it", rule)
		default:
			e.find(ok, "buffers", "%s", rule)
		}
	}
}
