package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// session is one connection. In addition to the client's goroutine it has one that reads and one that pings. Close adds
// one for the closing handshake. serve waits for all of them.
type session struct {
	c       *Client
	conn    *websocket.Conn
	form    form
	ctx     context.Context // ends with reading
	cancel  context.CancelFunc
	writing chan struct{} // holds one while a goroutine writes
	began   time.Time
	joined  bool // OnConnect has returned nil; used by the client's goroutine only
	late    lateRooms

	mu      sync.Mutex // guards the fields below
	queue   []incoming
	bytes   int            // of queue
	wake    chan struct{}  // signals a change to the client's goroutine; holds one
	room    chan struct{}  // signals to the reader that an event was removed; holds one
	paused  bool           // the reader waits for room
	over    bool           // the reader must not wait for room any more
	ended   error          // why reading has ended
	wait    *time.Duration // before the next connection, if the server has said so
	heard   time.Time      // the last sign of life
	proven  time.Time      // when the last answered ping was sent; zero: no ping was answered
	waiting map[uint64]waiter
	last    uint64 // ID of the newest request
}

// A waiter waits for a reply, on the channel or, if there is none, for the join of a late room, or for a wish about presence.
type waiter struct {
	ch      chan *incoming
	late    *lateRoom
	watched *watchedRoom // whose wish it is
}

// incoming is a message of the server: an event, a reconnect, or a reply.
type incoming struct {
	Event     string
	Data      json.RawMessage
	ID        uint64
	Error     *string
	Retry     bool // the Error is not final
	Gap       *gapMessage
	Reconnect *reconnect
	gap       Gap          // if there is a Gap
	late      *lateRoom    // whose join this answers; nil: none
	watched   *watchedRoom // whose wish this answers; nil: none
	Presence  json.RawMessage
	bad       error // the error of a malformed message
}

// eventSize is the memory of a waiting event, beside its name and data.
const eventSize = 256

func (m *incoming) size() int {
	return eventSize + len(m.Event) + len(m.Data) + len(m.Presence) + len(m.gap.Room)
}

func newSession(c *Client, conn *websocket.Conn) *session {
	now := time.Now()
	s := &session{
		c: c, conn: conn, form: formOf(conn), writing: make(chan struct{}, 1), waiting: make(map[uint64]waiter),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), began: now, heard: now,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// usedForm is the form of a connection, or the plain one if there is none.
func (s *session) usedForm() form {
	if s == nil {
		return formPlain
	}
	return s.form
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// serve calls the application's functions until the connection has ended or the client is closed, and returns the
// cause. since is the beginning of the previous connection's gap; zero: there was no previous connection.
func (s *session) serve(since time.Time) error {
	var others sync.WaitGroup
	others.Go(s.reader)
	if pings && s.c.o.PingInterval > 0 {
		others.Go(s.pinger)
	}
	hungUp := make(chan struct{})
	stop := context.AfterFunc(s.c.ctx, func() {
		defer close(hungUp)
		s.hangUp()
	})
	s.c.use(s)
	err := s.work(since)
	s.c.use(nil)
	if stop() {
		s.hangUp() // mostly a no-op, because the connection has ended
	} else {
		<-hungUp
	}
	others.Wait()
	return err
}

// hangUp ends the connection. An error means that the server took no part in the handshake; the connection is closed
// anyway.
func (s *session) hangUp() {
	s.mu.Lock()
	s.over = true
	signal(s.room)
	s.mu.Unlock()
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
}

// work calls OnConnect and OnGap, and then handles events.
func (s *session) work(since time.Time) error {
	o := &s.c.o
	if o.OnConnect != nil {
		ctx, cancel := context.WithCancel(s.c.ctx)
		stop := context.AfterFunc(s.ctx, cancel)
		err := o.OnConnect(ctx, s.c)
		stop()
		cancel()
		if err != nil {
			return err
		}
	}
	late, err := s.rejoin()
	if err != nil {
		return err
	}
	if s.c.ctx.Err() != nil {
		return s.c.over()
	}
	s.joined = true
	s.c.enter(StateConnected)
	if since.IsZero() {
		close(s.c.first)
	} else {
		s.c.handleGap(Gap{Since: since, Until: time.Now(), Away: true, Wait: draw(o.GapSpread)}, false)
	}
	s.beginLate(late, since)
	s.watchRest()
	for {
		if s.c.refetch() {
			continue
		}
		m, err := s.next(earlier(earlier(s.joinLate(), s.c.rewatch()), s.c.refetches.due.next()))
		switch {
		case err != nil:
			return err
		case m != nil:
			s.handle(m)
		}
	}
}

// next returns the next event, or nil at a time (zero: never), or an error if there will be no event.
func (s *session) next(at time.Time) (*incoming, error) {
	var due <-chan time.Time
	for {
		s.mu.Lock()
		if s.c.ctx.Err() != nil {
			s.mu.Unlock()
			return nil, s.c.over()
		}
		if len(s.queue) > 0 {
			m := s.queue[0]
			s.queue[0] = incoming{}
			s.queue = s.queue[1:]
			s.bytes -= m.size()
			signal(s.room)
			s.mu.Unlock()
			return &m, nil
		}
		err := s.ended
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if !at.IsZero() && due == nil {
			due = time.After(time.Until(at))
		}
		select {
		case <-s.wake:
		case <-due:
			return nil, nil
		case <-s.c.ctx.Done():
		}
	}
}

var errNoHandler = errors.New("no handler")

func (s *session) handle(m *incoming) {
	if m.bad != nil {
		s.c.o.OnError(s.c, "", m.bad)
		return
	}
	if m.late != nil {
		s.handleLate(m.late, m.failure())
		return
	}
	if m.watched != nil {
		s.c.handleWatched(m.watched, m.failure())
		return
	}
	if m.Gap != nil {
		s.c.handleGap(m.gap, m.Gap.Ends)
		return
	}
	if m.Presence != nil {
		s.handlePresence(m.Presence)
		return
	}
	h := s.c.o.Events[m.Event]
	if h == nil {
		switch {
		case m.ID != 0:
			s.reply(m, nil, errNoHandler)
		case m.Event == "error":
			s.c.o.OnError(s.c, m.Event, remoteErrorOf(m.Data))
		}
		return
	}
	v, err := h(s.c.ctx, s.c, m.Data)
	if err != nil {
		s.c.o.OnError(s.c, m.Event, err)
	}
	if m.ID != 0 {
		s.reply(m, v, err)
	}
}

// remoteErrorOf is the error of an event "error", with which the server reports that a message without an ID failed.
func remoteErrorOf(data json.RawMessage) error {
	var m struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(data, &m) // it might be the application's
	return RemoteError(cmp.Or(m.Message, string(data), "without data"))
}

// reply answers an acknowledged emission. A failed write ends the connection, so the server notices it, too.
func (s *session) reply(m *incoming, v any, failure error) {
	out := &outgoing{ID: m.ID, Data: v}
	if failure != nil {
		out = &outgoing{ID: m.ID, Error: failure.Error()}
		if out.Error == "" {
			out.Error = "failed"
		}
	}
	frame, err := s.c.frame(out, s.form)
	if err != nil {
		s.c.o.OnError(s.c, m.Event, err)
		frame, _ = encode(&outgoing{ID: m.ID, Error: "the reply cannot be sent"}, s.form)
	}
	_ = s.send(s.c.ctx, frame)
}

// send writes one message. A write that takes too long ends the connection.
func (s *session) send(ctx context.Context, frame message) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return ErrNotConnected
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() != nil:
		return ErrNotConnected
	}
	s.c.writing.Store(true)
	defer s.c.writing.Store(false)
	write, cancel := context.WithTimeout(context.Background(), s.c.o.WriteTimeout)
	defer cancel()
	if err := s.conn.Write(write, frame.typ, frame.data); err != nil {
		return fmt.Errorf("%w: %w", ErrUncertain, errorOf(err))
	}
	return nil
}

// A question is a request that was sent, and the channel that its reply will come on.
type question struct {
	id      uint64
	replied <-chan *incoming
}

// ask sends a request. Without an error, await must be called.
func (s *session) ask(ctx context.Context, m *outgoing) (question, error) {
	q := s.expect(m)
	m.ID = q.id
	frame, err := s.c.frame(m, s.form)
	if err == nil {
		err = s.send(ctx, frame)
	}
	if err != nil {
		s.forget(q.id)
	}
	return q, err
}

// expect makes a question. With a late room, and for a wish about presence, its reply comes among the events, and await must
// not be called.
func (s *session) expect(m *outgoing) question {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	w := waiter{late: m.late, watched: m.watched}
	if m.late == nil && m.Watch == "" && m.Unwatch == "" {
		w.ch = make(chan *incoming, 1)
	}
	s.waiting[s.last] = w
	return question{s.last, w.ch}
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// await waits for the reply and returns its data.
func (s *session) await(ctx context.Context, q question) (json.RawMessage, error) {
	defer s.forget(q.id)
	var r *incoming
	select {
	case r = <-q.replied:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.c.ctx.Done():
		return nil, s.c.over()
	case <-s.ctx.Done():
		select {
		case r = <-q.replied: // it came just before the end
		default:
			return nil, ErrUncertain
		}
	}
	return r.Data, r.failure()
}

// failure returns the error of a reply, or nil.
func (m *incoming) failure() error {
	switch {
	case m.Error == nil:
		return nil
	case m.Retry:
		return busyError{RemoteError(*m.Error)}
	}
	return RemoteError(*m.Error)
}

// cause returns why reading has ended.
func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// reader reads until the connection ends.
func (s *session) reader() {
	err := errorOf(s.readAll())
	s.mu.Lock()
	if s.ended == nil {
		s.ended = err
	}
	signal(s.wake)
	s.mu.Unlock()
	s.cancel()
	_ = s.conn.CloseNow() // mostly a no-op, because the connection has ended
}

func (s *session) readAll() error {
	for {
		typ, r, err := s.conn.Reader(context.Background())
		if err != nil {
			return err
		}
		s.noteAlive()
		b, err := io.ReadAll(listener{r, s})
		if err != nil {
			return err
		}
		m, err := s.form.decode(typ, b)
		switch {
		case err != nil:
			return err
		case m.bad != nil:
			s.push(m)
		case m.Event != "":
			m.Gap, m.Presence = nil, nil
			s.push(m)
		case m.Gap != nil:
			m.Presence = nil
			m.gap, m.bad = m.Gap.gap(time.Now())
			s.push(m)
		case m.Presence != nil:
			s.push(m)
		case m.Reconnect != nil:
			s.planReconnect(m.Reconnect)
		default:
			s.handleReply(&m)
		}
	}
}

// A listener counts the parts of a long message as signs of life.
type listener struct {
	r io.Reader
	s *session
}

func (l listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(len(p), 16<<10)])
	l.s.noteAlive()
	return n, err
}

// push waits for room and queues an event. Only the reader calls it.
func (s *session) push(m incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := m.size()
	for len(s.queue) > 0 && s.bytes+size > s.c.o.EventBytes && !s.over {
		s.paused = true
		s.mu.Unlock()
		<-s.room
		s.mu.Lock()
	}
	s.paused = false
	s.queue = append(s.queue, m)
	s.bytes += size
	signal(s.wake)
}

// handleReply passes a reply on. A reply for which nobody waits is no mistake of the server.
func (s *session) handleReply(m *incoming) {
	s.mu.Lock()
	w := s.waiting[m.ID]
	delete(s.waiting, m.ID)
	s.mu.Unlock()
	switch {
	case w.ch != nil:
		w.ch <- m
	case w.late != nil:
		m.late = w.late
		s.push(*m)
	case w.watched != nil:
		m.watched = w.watched
		s.push(*m)
	}
}

// A reconnect is the server's word on when to connect again, once it closes the connection.
type reconnect struct {
	Wait int64 // in milliseconds
}

// maxWait bounds a reconnect's Wait, and a Retry-After.
const maxWait = time.Minute

func (s *session) planReconnect(r *reconnect) {
	wait := time.Duration(min(max(r.Wait, 0), maxWait.Milliseconds())) * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wait = &wait
}

// plannedWait returns how long to wait before the next connection, if the server has said so.
func (s *session) plannedWait() (wait time.Duration, planned bool) {
	if s == nil { // there was no connection
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait == nil {
		return 0, false
	}
	return *s.wait, true
}

func (s *session) noteAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
}

// inFlight is the assumed travel time of a message from the server.
const inFlight = 2 * time.Second

// mayMiss returns the beginning of this connection's gap.
func (s *session) mayMiss() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.heard
	if !s.proven.IsZero() {
		last = s.proven
	}
	if since := last.Add(-s.c.o.GapMargin); since.After(s.began) {
		return since
	}
	return s.began
}

var errTimeout = errors.New("crosscast/client: the server does not answer")

// pinger ends a connection on which nothing arrives in time after a ping. A pause of reading is not the server's fault:
// no ping is sent then, and if a pause begins after a ping, something has arrived.
func (s *session) pinger() {
	ticker := time.NewTicker(s.c.o.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		before, paused := s.heard, s.paused
		s.mu.Unlock()
		if paused {
			continue
		}
		sent := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, s.c.o.PingTimeout)
		err := s.conn.Ping(ctx)
		cancel()
		switch {
		case err == nil:
			s.mu.Lock()
			s.heard, s.proven = time.Now(), sent
			s.mu.Unlock()
			continue
		case s.ctx.Err() != nil:
			return
		}
		s.mu.Lock()
		dead := s.heard.Equal(before)
		if dead && s.ended == nil {
			s.ended = errTimeout
		}
		s.mu.Unlock()
		if dead {
			_ = s.conn.CloseNow()
			return
		}
	}
}
