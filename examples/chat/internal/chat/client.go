package chat

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A Client is a chat client that stays connected, and prints what happens. Its fields are set before Run, which is
// called once.
type Client struct {
	Name      string
	Room      string
	ServerURL string // http://… or https://…
	Printer   *Printer
	Greet     bool // says hi 500 ms after each time it connected

	OnJoined  func(Joined)  // optional, as what follows
	OnMessage func(Message) //
	OnGap     func(Gap)     //

	mu   sync.Mutex // guards conn
	conn *websocket.Conn
}

// Back-off of connecting. The jitter keeps the clients of a server that restarts from coming back all at once.
const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// Run connects, again and again, until ctx ends.
func (c *Client) Run(ctx context.Context) {
	backoff := minBackoff
	for {
		connected, err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if connected {
			backoff = minBackoff
		}
		wait := backoff/2 + rand.N(backoff/2)
		backoff = min(2*backoff, maxBackoff)
		if !connected {
			c.print("cannot connect, trying again in %v: %v", wait.Round(time.Millisecond), err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// Say sends text to the room.
func (c *Client) Say(ctx context.Context, text string) error {
	return c.send(ctx, "sendToRoom", sendToRoom{c.Room, text})
}

// Join sends joinRoom.
func (c *Client) Join(ctx context.Context, room string) error { return c.send(ctx, "joinRoom", room) }

var errNotConnected = errors.New("chat: not connected")

func (c *Client) send(ctx context.Context, event string, data any) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errNotConnected
	}
	b, err := json.Marshal(struct {
		Event string `json:"event"`
		Data  any    `json:"data"`
	}{event, data})
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, b)
}

func (c *Client) print(format string, args ...any) { c.Printer.Print(c.Name, format, args...) }

// session is one connection. It reports whether there was one.
func (c *Client) session(ctx context.Context) (connected bool, err error) {
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	url := strings.Replace(strings.TrimSuffix(c.ServerURL, "/"), "http", "ws", 1) + "/ws"
	conn, _, err := websocket.Dial(dial, url, nil)
	if err != nil {
		return false, err
	}
	conn.SetReadLimit(4 << 20)
	c.use(conn)
	defer c.use(nil)
	// Ending ctx ends the connection with a closing handshake. (A read with ctx would break it.)
	stop := context.AfterFunc(ctx, func() { conn.Close(websocket.StatusNormalClosure, "") })
	defer stop()
	pinging, stopPinging := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { keepAlive(pinging, conn) })
	defer wg.Wait()
	defer stopPinging()
	defer conn.CloseNow()
	for {
		_, b, err := conn.Read(context.Background())
		if err != nil {
			if connected {
				c.print("disconnected")
			}
			return connected, err
		}
		var m struct {
			Event string
			Data  json.RawMessage
		}
		if err := json.Unmarshal(b, &m); err != nil {
			c.print("cannot understand the server: %v", err)
			continue
		}
		if m.Event == "connected" {
			connected = true
		}
		if err := c.handle(ctx, m.Event, m.Data); err != nil {
			c.print("%s: %v", m.Event, err)
		}
	}
}

func (c *Client) use(conn *websocket.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

// keepAlive finds out when the server does not answer any more.
func keepAlive(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		answer, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := conn.Ping(answer)
		cancel()
		if err != nil {
			_ = conn.CloseNow()
			return
		}
	}
}

func (c *Client) handle(ctx context.Context, event string, data json.RawMessage) error {
	switch event {
	case "connected":
		m, err := decode[Connected](data)
		if err != nil {
			return err
		}
		c.print("connected to %s as %s", c.ServerURL, m.ID)
		if c.Greet {
			time.AfterFunc(500*time.Millisecond, func() {
				if ctx.Err() == nil {
					_ = c.Say(ctx, "hi from "+c.Name) // fails when the connection has ended, which is printed
				}
			})
		}
		return c.Join(ctx, c.Room)
	case "joined":
		m, err := decode[Joined](data)
		if err != nil {
			return err
		}
		c.print("joined room=%s (handled by %s)", m.RoomID, m.Node)
		call(c.OnJoined, m)
	case "roomMessage":
		m, err := decode[Message](data)
		if err != nil {
			return err
		}
		c.print("got message: %s (from %s on %s)", m.Text, m.FromSocketID, m.FromNode)
		call(c.OnMessage, m)
	case "gap":
		m, err := decode[Gap](data)
		if err != nil {
			return err
		}
		c.print("messages may be missing since %s (%s)", m.Since, m.Reason)
		call(c.OnGap, m)
	case "error":
		c.print("error: %s", data)
	}
	return nil
}

func decode[T any](data json.RawMessage) (v T, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}
