package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEmbedded(t *testing.T) { runAndCheck(t, "") }

func TestRealRedis(t *testing.T) {
	runAndCheck(t, "redis://"+redistest.Start(t, redistest.Config{}).Addr())
}

func runAndCheck(t *testing.T, url string) {
	var out bytes.Buffer
	if err := run(t.Context(), url, &out); err != nil {
		t.Fatalf("%v\nprinted:\n%s", err, out.String())
	}
	want := strings.Join([]string{
		`3 nodes, 10000 users connected in \S+`,
		`done to one user: 1 deliveries to 1 users in \S+`,
		`(  node-\d: has (0 of the users, delivered 0|1 of the users, delivered 1), received 0 in vain\n){3}` +
			`  each arrived exactly once, and nodes without the user received nothing`,
		`done to 100 random users: 100 deliveries to 100 users in \S+`,
		`(  node-\d: has \d+ of the users, delivered \d+, received 0 in vain\n){3}` +
			`  each arrived exactly once, and nodes without the user received nothing`,
		`done to everyone: 10000 deliveries to 10000 users in \S+`,
		`  node-1: has 3334 of the users, delivered 3334, received 0 in vain`,
		`  node-2: has 3333 of the users, delivered 3333, received 0 in vain`,
		`  node-3: has 3333 of the users, delivered 3333, received 0 in vain`,
		`  each arrived exactly once, and nodes without the user received nothing`,
	}, "\n")
	if !regexp.MustCompile(`^` + want + `\n$`).Match(out.Bytes()) {
		t.Fatalf("printed:\n%s", out.String())
	}
}

// TestWrongCounts has the program notice what it is there to notice.
func TestWrongCounts(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	c, err := startCluster(t.Context(), "redis://"+server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	emit := func(users ...string) func() error {
		return func() error {
			for _, u := range users {
				if err := c.nodes[0].ToUser(u).Emit(t.Context(), "done", nil); err != nil {
					return err
				}
			}
			return nil
		}
	}
	many := make([]string, 20) // of nodes 2 and 3, in one emission: it goes to everyone's topic
	var numbers []int
	for i := range many {
		numbers = append(numbers, 3*i+1)
		many[i] = userName(numbers[i])
	}
	for _, test := range []struct {
		name  string
		users []int
		emit  func() error
		want  string
	}{
		{"right", []int{4}, emit("user-4"), ""},
		{"missing", []int{4, 5}, emit("user-4"), "user-5 got 0 messages"},
		{"twice", []int{4}, emit("user-4", "user-4"), "user-4 got 2 messages"},
		{"somebody else", []int{4}, emit("user-4", "user-6"), "user-6 got 1 messages"},
		{"in vain", numbers, func() error {
			return c.nodes[0].ToUser(many...).Emit(t.Context(), "done", nil)
		}, "node-3 received 1 instructions in vain"},
	} {
		err := c.step(t.Context(), io.Discard, test.name, test.users, test.emit)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}
