package socketioadapter_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/socketioadapter"
)

// amplification is how many bytes may be allocated for each byte of a message. It counts all allocations of reading,
// most of which are released on the way. There is an additional allowance for tables of recurring names.
const (
	amplification = 32
	allowance     = 128 << 10
)

func bound(data string) uint64 { return amplification*uint64(len(data)) + allowance }

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// node is one that does nothing, and waits for answers or not.
type node struct {
	nothing
	awaits bool
}

func (n node) Awaits(string) bool { return n.awaits }

// reads returns how many bytes are allocated to read a message.
func reads(o socketioadapter.Options, on, data string, awaits bool) uint64 {
	d := socketioadapter.NewDialect(o)
	d.Begin(starting(crosscast.NodeInfo{ID: "aaaaaaaa"}, node{awaits: awaits}))
	b := []byte(data)
	return allocated(func() { _, _ = d.Read(on, b) })
}

// ballast returns values of about n bytes, as JSON, that take much memory for their length.
func ballast(n int) map[string]string {
	array := func(element string) string {
		return "[" + strings.Repeat(element+",", n/(len(element)+1)) + element + "]"
	}
	var distinct strings.Builder
	for i := range n / 8 {
		fmt.Fprintf(&distinct, `"%05x",`, i)
	}
	return map[string]string{
		"short texts": array(`"x"`), "numbers": array("1"), "nulls": array("null"), "floats": array("-1.5e-7"),
		"distinct texts": "[" + distinct.String() + `""]`, "empty maps": array("{}"), "IDs": array(`{"id":"x"}`),
		"rooms": array(`{"id":"x","rooms":["r",1,"s"]}`), "data": array(`{"id":"x","data":[1,2,3]}`),
		"sockets": array(`{"id":"xxxxxxxxxxxxxxxxxxxx","handshake":{},"rooms":["xxxxxxxxxxxxxxxxxxxx","r"],"data":{}}`),
		"escapes": `"` + strings.Repeat(`\u0001`, n/6) + `"`, "digits": strings.Repeat("1", n),
		"a list of rooms": `{"id":"x","rooms":` + array(`"x"`) + `}`,
	}
}

// TestReadIsModest: the allocations of reading any message are bounded by its length, whether or not an answer is
// awaited.
func TestReadIsModest(t *testing.T) {
	const classicID, shardedID = `"requestId":"aaaaaaaa~1"`, `"requestId":"6161616161616161~1"`
	values := ballast(1 << 17)
	for _, what := range slices.Sorted(maps.Keys(values)) {
		v := values[what]
		check := func(o socketioadapter.Options, on, as, text string) {
			t.Helper()
			asMsgpack, err := mpack.AppendFromJSON(nil, []byte(text))
			must(t, err)
			for _, data := range []string{text, string(asMsgpack)} {
				for _, awaits := range []bool{false, true} {
					if n := reads(o, on, data, awaits); n > bound(data) {
						t.Errorf("%s as %s, on %s, awaited %v: %.40q…, %d bytes, allocate %.1f times as many", what, as, on, awaits,
							data, len(data), float64(n)/float64(len(data)))
					}
				}
			}
		}
		for _, as := range []string{"sockets", "rooms", "data", "packet"} {
			for _, typ := range []int{0, 6, 9} {
				check(classic, "socket.io-response#/#", as, fmt.Sprintf(`{%s,"type":%d,"uid":"u",%q:%s}`, classicID, typ, as, v))
			}
			for _, typ := range []int{0, 2, 6} {
				check(classic, "socket.io-request#/#", as,
					fmt.Sprintf(`{"requestId":"x","type":%d,"uid":"u","opts":{},%q:%s}`, typ, as, v))
			}
			for _, typ := range []int{4, 8, 9, 10, 12} {
				check(sharded, "socket.io#/#", as,
					fmt.Sprintf(`{"type":%d,"uid":"u","nsp":"/","data":{%s,"opts":{},%q:%s}}`, typ, shardedID, as, v))
			}
		}
		check(classic, "socket.io#/#", "arguments", fmt.Sprintf(`["u",{"data":["e",%s]},{}]`, v))
		check(classic, "socket.io#/#", "packet", fmt.Sprintf(`["u",{"data":%s},{}]`, v))
		check(classic, "socket.io#/#", "rooms", fmt.Sprintf(`["u",{"data":["e"]},{"rooms":%s,"except":%s}]`, v, v))
		check(sharded, "socket.io#/#", "arguments", fmt.Sprintf(
			`{"type":3,"uid":"u","nsp":"/","data":{"opts":{"rooms":%s},"packet":{"data":["e",%s]}}}`, v, v))
	}
}
