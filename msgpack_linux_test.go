package crosscast_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// The most that the referee may allocate for a few bytes, whatever length they claim. SECURITY.md says which version keeps
// to it.
const maxReferee = 128 << 20

// TestRefereeIsModest decodes values that lack all but their length, in a process of its own: one that has not much
// memory left, because a version that believes the length takes the machine's.
func TestRefereeIsModest(t *testing.T) {
	if os.Getenv("CROSSCAST_REFEREE") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRefereeIsModest$", "-test.v")
		cmd.Env = append(os.Environ(), "CROSSCAST_REFEREE=1")
		out, err := cmd.CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "--- PASS") {
			t.Fatalf("%v\n%s", err, text[:min(len(text), 4096)])
		}
		return
	}

	limitMemory(t, 8*maxReferee)
	for tag, what := range map[string]string{
		"\xdb": "a string", "\xc6": "bytes", "\xc9": "an extension", "\xdd": "an array", "\xdf": "a map",
	} {
		b := []byte(tag + "\x10\x00\x00\x00")
		for _, into := range []any{
			new(any), new([]any), new([]byte), new([]string), new(string), new(map[string]any), new(map[string]string),
		} {
			if spent := allocates(func() { _ = msgpack.Unmarshal(b, into) }); spent > maxReferee {
				t.Errorf("%s into %T: %d bytes allocated for the five % x", what, into, spent, b)
			}
		}
	}
}

// limitMemory lets this process have n bytes more than it has. With the race detector it has terabytes, hence what
// counts is data alone.
func limitMemory(t *testing.T, n uint64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(string(status), "VmData:")
	var kB uint64
	if _, err := fmt.Sscan(data, &kB); err != nil {
		t.Fatal(err)
	}
	limit := syscall.Rlimit{Cur: kB<<10 + n, Max: kB<<10 + n}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		t.Fatal(err)
	}
}
