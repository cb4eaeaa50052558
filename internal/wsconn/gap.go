package wsconn

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// maxGapWindow is the longest GapWindow.
const maxGapWindow = time.Hour

// GapWindow returns the time within which a number of clients may query the application. spread is the time for 1,000 of
// them; negative: none.
func GapWindow(spread time.Duration, clients int) time.Duration {
	perClient := max(spread, 0) / 1000
	if clients > 0 && perClient > math.MaxInt64/time.Duration(clients) {
		return maxGapWindow
	}
	return min(perClient*time.Duration(clients), maxGapWindow)
}

// AppendGap appends the object of which a client is told about a gap, in milliseconds before now: {"room":"r",
// "ago":[4200,300],"wait":800}. An empty room is everything. A zero until means that the gap goes on. A room that is not
// UTF-8 has the bytes in question replaced by U+FFFD.
func AppendGap(b []byte, room string, since, until time.Time, wait time.Duration) []byte {
	b = append(b, '{')
	if room != "" {
		name, _ := json.Marshal(room) // a string has no errors
		b = append(append(append(b, `"room":`...), name...), ',')
	}
	now := time.Now()
	ago := max(now.Sub(since), 0)
	ms := ago.Milliseconds()
	if ago%time.Millisecond > 0 {
		ms++ // never later than since
	}
	b = strconv.AppendInt(append(b, `"ago":[`...), ms, 10)
	if !until.IsZero() {
		b = strconv.AppendInt(append(b, ','), max(now.Sub(until), 0).Milliseconds(), 10)
	}
	b = strconv.AppendInt(append(b, `],"wait":`...), wait.Milliseconds(), 10)
	return append(b, '}')
}
