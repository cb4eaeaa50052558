package crosscast

import (
	"errors"
	"time"
)

var errGrace = errors.New("crosscast: WatchOptions.Grace must be 0 to 1 h, and needs Users")

func (o *WatchOptions) check() error {
	if o.Grace < 0 || o.Grace > time.Hour || o.Grace > 0 && !o.Users {
		return errGrace
	}
	return nil
}

// away has the users of a watch whose last socket has left, and who count as members until their grace is over. All is
// guarded by the watch's mu.
type away struct {
	w     *Watch
	grace time.Duration
	shows map[memberKey]*shown    // what they showed last
	due   map[memberKey]time.Time // when each one has left
	queue []departure             // in the order of due; some have come back
	timer *time.Timer             // calls ended; nil: nobody is away
}

type departure struct {
	key memberKey
	due time.Time
}

// noteLocked takes a change of a user. It returns whether followers are to learn of it now, and what was there before
// for them.
func (a *away) noteLocked(k memberKey, c change) (was entry, tell bool) {
	if !c.is.here {
		a.leaveLocked(k, c.was.show)
		return c.was, false
	}
	if _, away := a.due[k]; away {
		c.was = entry{true, a.shows[k]}
		delete(a.due, k)
		delete(a.shows, k)
	}
	return c.was, true
}

func (a *away) leaveLocked(k memberKey, last *shown) {
	if a.due == nil {
		a.due, a.shows = make(map[memberKey]time.Time), make(map[memberKey]*shown)
	}
	due := time.Now().Add(a.grace)
	a.due[k], a.shows[k] = due, last
	if len(a.queue) > 64+2*len(a.due) {
		a.compactLocked()
	}
	a.queue = append(a.queue, departure{k, due})
	if a.timer == nil {
		a.timer = time.AfterFunc(a.grace, a.ended)
	}
}

// compactLocked forgets those who have come back. So a user who comes and goes all the time costs little.
func (a *away) compactLocked() {
	kept := make([]departure, 0, len(a.due))
	for _, d := range a.queue {
		if a.due[d.key].Equal(d.due) {
			kept = append(kept, d)
		}
	}
	a.queue = kept
}

// ended reports those whose grace is over.
func (a *away) ended() {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if a.w.closed {
		return
	}
	now, followed := time.Now(), a.w.followedLocked()
	for len(a.queue) > 0 && !a.queue[0].due.After(now) {
		d := a.queue[0]
		a.queue = a.queue[1:]
		if !a.due[d.key].Equal(d.due) {
			continue
		}
		if followed {
			a.w.pending.note(d.key, entry{true, a.shows[d.key]}, entry{})
		}
		delete(a.due, d.key)
		delete(a.shows, d.key)
	}
	if a.timer = nil; len(a.queue) > 0 {
		a.timer = time.AfterFunc(a.queue[0].due.Sub(now), a.ended)
	}
	a.w.queueLocked()
}

func (a *away) endLocked() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.shows, a.due, a.queue = nil, nil, nil
}

// eachAway calls f with the members that are not in the roster, because their last socket has left a moment ago. The
// view is locked.
func (w *Watch) eachAway(r *roster, f func(memberKey, *shown)) {
	if w.away == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, show := range w.away.shows {
		if r.users[k.user] == 0 {
			f(k, show)
		}
	}
	for k, c := range r.diff { // the watch learns of these next
		if k.socket == "" && c.was.here && !c.is.here {
			f(k, c.was.show)
		}
	}
}
