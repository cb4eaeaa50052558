// Command crosscast looks into a running cluster of crosscast nodes, or of Socket.IO servers, that meet on Redis.
//
//	crosscast doctor                   looks for what is wrong with Redis and the nodes
//	crosscast nodes                    lists the nodes
//	crosscast rooms                    lists the rooms, largest first
//	crosscast users ann                lists the connections of a user
//	crosscast top                      shows what the nodes do in a second
//	crosscast tail lobby               prints what is emitted to a room
//	crosscast bench                    measures Redis
//	crosscast emit --room lobby said '"hello"'
//	crosscast disconnect --user ann
//
// It is no node: it queries and commands as an emitter does (crosscast.Options.EmitOnly).
//
// Exit codes: 0, it went well; 1, something is wrong with the cluster, or nodes did not answer; 2, the command line, or
// the file of --config, is wrong; 3, Redis cannot be reached, or refuses the user; 4, no node has this prefix and mode.
//
// docs/command.md describes it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
)

// flags are those of all commands.
type flags struct {
	Config       kong.ConfigFlag `help:"File with these flags, as JSON: {\"redis\": \"redis://…\", \"prefix\": \"app\"}." placeholder:"FILE"`
	Redis        string          `help:"URL of Redis, in one of the forms that docs/redis.md lists. Other users of this machine see a command line: give a password in the environment, or in the file." env:"REDIS_URL" default:"redis://localhost:6379" placeholder:"URL"`
	Prefix       string          `help:"Options.Prefix of the nodes (default: cc); of Socket.IO, the servers' key (default: socket.io)." placeholder:"NAME"`
	Topics       *int            `help:"Options.Topics of the nodes. Default: what Redis shows of it." placeholder:"N"`
	Mode         string          `help:"What the nodes speak: ${enum}." enum:"crosscast,socketio,socketio-sharded" default:"crosscast"`
	Subscription string          `help:"The servers' subscriptionMode, in socketio-sharded: ${enum}." enum:"dynamic,static,dynamic-private" default:"dynamic"`
	KeyFile      string          `help:"File with the keys of the seal, if the nodes have one. Or give them in the environment, as CROSSCAST_KEYS. Each is 32 bytes in base64." placeholder:"FILE"`
	Namespace    string          `help:"Namespace of the sockets." default:"/"`
	Timeout      time.Duration   `help:"How long nodes may take to answer." default:"5s"`
	JSON         bool            `help:"Print JSON." name:"json"`
}

type cli struct {
	flags

	Doctor     doctorCommand     `cmd:"" help:"Look for what is wrong with Redis and the nodes."`
	Nodes      nodesCommand      `cmd:"" help:"List the nodes, with their state."`
	Top        topCommand        `cmd:"" help:"Show the nodes again and again, with what they do in a second."`
	Rooms      roomsCommand      `cmd:"" help:"List the rooms, largest first."`
	Users      usersCommand      `cmd:"" help:"List the users, or the connections of one."`
	Emit       emitCommand       `cmd:"" help:"Emit an event to rooms, users, sockets or everyone."`
	Tail       tailCommand       `cmd:"" help:"Print what is emitted to a room, or to all, as it passes through Redis."`
	Disconnect disconnectCommand `cmd:"" help:"Disconnect the sockets of users, rooms, or single ones."`
	Bench      benchCommand      `cmd:"" help:"Measure Redis, with two nodes of this process."`
}

// The exit codes.
const (
	exitFault       = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNobody      = 4
)

// A failure is an error with an exit code.
type failure struct {
	code int
	error
}

func (f *failure) Unwrap() error { return f.error }

func fail(code int, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...)}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, log io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(silent{})
	var c cli
	parser := kong.Must(&c, kong.Name("crosscast"), kong.Writers(out, log), kong.Configuration(kong.JSON),
		kong.Description("Look into a running cluster of crosscast nodes, or of Socket.IO servers, that meet on Redis."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	parsed, err := parser.Parse(args)
	if err == nil {
		s := &session{flags: &c.flags, out: out, log: log}
		parsed.Bind(s)
		parsed.BindTo(ctx, (*context.Context)(nil))
		err = errors.Join(parsed.Run(), s.close())
	} else {
		err = &failure{exitUsage, err}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(log, "crosscast:", clean(err))
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.code
	}
	return exitFault
}

// silent is the log of go-redis, which would repeat what the errors say.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
