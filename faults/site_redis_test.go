package faults_test

import (
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redistest"
)

// A redisBus is the bus of a site with Redises.
type redisBus struct{ *site }

// carrying is which of the Redises carries a topic.
func (s redisBus) carrying(topic string) int {
	s.tb.Helper()
	if s.kind != shards {
		return 0
	}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(5 * time.Millisecond) { // poll
		for i, rdb := range s.admin() {
			if n, err := rdb.PubSubNumSub(s.tb.Context(), topic).Result(); err == nil && n[topic] > 0 {
				return i
			}
		}
	}
	s.tb.Fatalf("no Redis has subscribers of %s", topic)
	return 0
}

func (s redisBus) publish(topic string, all [][]byte) {
	s.tb.Helper()
	rdb := s.admin()[s.carrying(topic)]
	for len(all) > 0 {
		n := min(len(all), 500)
		if _, err := rdb.Pipelined(s.tb.Context(), func(p redis.Pipeliner) error {
			for _, data := range all[:n] {
				p.Publish(s.tb.Context(), topic, data)
			}
			return nil
		}); err != nil {
			s.tb.Fatal(err)
		}
		all = all[n:]
	}
}

func (s redisBus) capture(topic string, n int) (frames [][]byte) {
	s.tb.Helper()
	ps := s.admin()[s.carrying(topic)].Subscribe(s.tb.Context(), topic)
	defer ps.Close()
	ctx := redistest.Within(s.tb, patience)
	for len(frames) < n {
		m, err := ps.ReceiveMessage(ctx)
		if err != nil {
			s.tb.Fatal(err)
		}
		frames = append(frames, []byte(m.Payload))
	}
	return frames
}

func (s redisBus) rooms() (n int) {
	s.tb.Helper()
	for _, admin := range s.admin() {
		list, err := admin.PubSubChannels(s.tb.Context(), "cc:r:*").Result()
		if err != nil {
			s.tb.Fatal(err)
		}
		n += len(list)
	}
	return n
}

func (s redisBus) subscribers() (addrs []string) {
	s.tb.Helper()
	for _, admin := range s.admin() {
		list, err := admin.Do(s.tb.Context(), "client", "list", "type", "pubsub").Text()
		if err != nil {
			s.tb.Fatal(err)
		}
		for field := range strings.FieldsSeq(list) {
			if addr, ok := strings.CutPrefix(field, "addr="); ok {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs
}

func (s redisBus) end(addr string) (ended int) {
	for _, admin := range s.admin() {
		n, _ := admin.ClientKillByFilter(s.tb.Context(), "addr", addr).Result()
		ended += int(n)
	}
	return ended
}

func (s redisBus) endSubscribers() { s.endAll("pubsub") }
func (s redisBus) endOthers()      { s.endAll("normal") }

func (s redisBus) endAll(kind string) {
	for _, admin := range s.admin() {
		redistest.KillConnections(s.tb, admin, kind)
	}
}

func (s redisBus) endOthersOf(ports map[string]bool) (ended int) {
	s.tb.Helper()
	for _, admin := range s.admin() {
		list, err := admin.ClientList(s.tb.Context()).Result()
		if err != nil {
			s.tb.Fatal(err)
		}
		for client := range strings.Lines(list) {
			fields := map[string]string{}
			for field := range strings.FieldsSeq(client) {
				key, value, _ := strings.Cut(field, "=")
				fields[key] = value
			}
			if !ports[fields["addr"]] || fields["sub"] != "0" {
				continue
			}
			if n, _ := admin.ClientKillByFilter(s.tb.Context(), "id", fields["id"]).Result(); n > 0 { // else it is gone already
				ended++
			}
		}
	}
	return ended
}
