package redisbus_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/redisbus"
)

// TestTagsAreEven: from 3 to 32 masters with evenly divided slots, each has within 10 % as many tags as the others.
func TestTagsAreEven(t *testing.T) {
	tags, slots := redisbus.Tags()
	for i, slot := range slots {
		if slot*len(tags)/16384 != i {
			t.Errorf("tag %d, %s, has slot %d", i, tags[i], slot)
		}
	}
	for masters := 3; masters <= 32; masters++ {
		have := make([]int, masters)
		for _, slot := range slots {
			for m := range masters {
				if m*16384/masters <= slot && slot < (m+1)*16384/masters {
					have[m]++
				}
			}
		}
		for m, n := range have {
			if share := float64(n*masters) / float64(len(tags)); share < 0.9 || share > 1.1 {
				t.Errorf("of %d masters, number %d has %.2f times its share", masters, m, share)
			}
		}
	}
}

// TestTagsStay: nodes of all versions must agree on the tags, and on those of topics.
func TestTagsStay(t *testing.T) {
	tags, _ := redisbus.Tags()
	var text strings.Builder
	fmt.Fprintln(&text, tags)
	for group := range 16 {
		for _, rest := range []string{":all", ":n:abcdefgh", ":r:/:room", ":r:/chat:room", ":u:/:user", ":hr:64:7", ":hu:64:7"} {
			fmt.Fprintln(&text, group, rest, redisbus.TagOf(group, rest))
		}
	}
	const want = "420fd27f623a0581"
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text.String())))[:16]; got != want {
		t.Errorf("the tags have changed: their hash is %s", got)
	}
}

// TestTopicsAreEven: rooms are spread evenly over the tags of a group, and what is for everyone or a node has one tag.
func TestTopicsAreEven(t *testing.T) {
	const topics = 16_000
	have := map[int]int{}
	for i := range topics {
		have[redisbus.TagOf(3, fmt.Sprint(":r:/:room", i))]++
	}
	for tag := 48; tag < 64; tag++ {
		if n := have[tag]; n < 900 || n > 1100 {
			t.Errorf("%d of %d topics have tag %d", n, topics, tag)
		}
	}
	if all, node := redisbus.TagOf(3, ":all"), redisbus.TagOf(3, ":n:abcdefgh"); all != node || all != 56 {
		t.Errorf("everyone has tag %d, and a node %d", all, node)
	}
}

// TestSlots: the example is that of the Redis Cluster specification.
func TestSlots(t *testing.T) {
	if got := redisbus.SlotOf("123456789"); got != 0x31C3 {
		t.Errorf("slot %#x", got)
	}
}
