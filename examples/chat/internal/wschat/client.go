package wschat

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast/examples/internal/chat"
	"github.com/crosscast/crosscast/ws/client"
)

// A Client is a chat client that stays connected, and prints what happens. Its fields are set before Run, which is
// called once.
type Client struct {
	Name      string
	Room      string
	ServerURL string // http://… or https://…
	Printer   *chat.Printer
	Greet     bool // says hi 500 ms after each time it connected

	OnJoined  func(chat.Joined)  // optional, as what follows
	OnMessage func(chat.Message) //
	OnGap     func(client.Gap)   //

	mu   sync.Mutex // guards conn
	conn *client.Client
}

// Run connects, again and again, until ctx ends.
func (c *Client) Run(ctx context.Context) {
	conn, err := client.Dial(ctx, strings.TrimSuffix(c.ServerURL, "/")+"/ws?name="+url.QueryEscape(c.Name), client.Options{
		Events: client.Events{
			"connected":   client.Typed(c.connected),
			"joined":      client.Typed(c.joined),
			"roomMessage": client.Typed(c.message),
			"error": func(_ context.Context, _ *client.Client, data json.RawMessage) (any, error) {
				c.print("error: %s", data)
				return nil, nil
			},
		},
		OnConnect: func(ctx context.Context, conn *client.Client) error {
			c.use(conn) // Dial has not returned yet
			return c.Join(ctx, c.Room)
		},
		OnGap:        c.gap,
		OnDisconnect: func(*client.Client, error) { c.print("disconnected") },
		OnRetry: func(_ *client.Client, err error, wait time.Duration) {
			c.print("cannot connect, trying again in %v: %v", wait.Round(time.Millisecond), err)
		},
		OnError: func(_ *client.Client, event string, err error) {
			if event == "" {
				c.print("cannot understand the server: %v", err)
			} else {
				c.print("%s: %v", event, err)
			}
		},
	})
	if err != nil {
		if ctx.Err() == nil { // no address
			c.print("%v", err)
		}
		return
	}
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_ = conn.Close(closing) // fails only with a server that takes no part in it
}

// Say sends text to the room.
func (c *Client) Say(ctx context.Context, text string) error {
	return c.send(ctx, "sendToRoom", chat.SendToRoom{RoomID: c.Room, Text: text})
}

// Join sends joinRoom.
func (c *Client) Join(ctx context.Context, room string) error { return c.send(ctx, "joinRoom", room) }

func (c *Client) send(ctx context.Context, event string, data any) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return client.ErrNotConnected
	}
	return conn.Emit(ctx, event, data)
}

func (c *Client) use(conn *client.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

func (c *Client) print(format string, args ...any) { c.Printer.Print(c.Name, format, args...) }

func (c *Client) connected(ctx context.Context, _ *client.Client, m chat.Connected) error {
	c.print("connected to %s as %s", c.ServerURL, m.Name)
	if c.Greet {
		time.AfterFunc(500*time.Millisecond, func() {
			if ctx.Err() == nil {
				_ = c.Say(ctx, "hi from "+c.Name) // fails when the connection has ended, which is printed
			}
		})
	}
	return nil
}

func (c *Client) joined(_ context.Context, _ *client.Client, m chat.Joined) error {
	c.print("joined room=%s (handled by %s)", m.RoomID, m.Node)
	call(c.OnJoined, m)
	return nil
}

func (c *Client) message(_ context.Context, _ *client.Client, m chat.Message) error {
	c.print("got message: %s (from %s on %s)", m.Text, m.From, m.FromNode)
	call(c.OnMessage, m)
	return nil
}

func (c *Client) gap(_ *client.Client, g client.Gap) {
	c.print("messages may be missing since %s", g.Since.Format(time.RFC3339))
	call(c.OnGap, g)
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}
