package faults_test

import (
	"slices"
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
	i, _ := s.channel(topic)
	return i
}

// channel is which of the Redises carries a topic, and the name that it has there.
func (s redisBus) channel(topic string) (at int, name string) {
	s.tb.Helper()
	switch {
	case s.kind == shards:
	case s.isSharded(topic):
	case s.kind == cluster || s.kind == sharded:
		return s.anchor(), topic
	default:
		return 0, topic
	}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(5 * time.Millisecond) { // poll
		for i, rdb := range s.admin() {
			if name := s.subscribed(rdb, topic); name != "" {
				return i, name
			}
		}
	}
	s.tb.Fatalf("no Redis has subscribers of %s", topic)
	return 0, ""
}

// concerns reports whether a topic depends on one of three Redises. On sharded Pub/Sub it does if its group has a tag there:
// there is a tag in the middle of every 64 slots, and 16 neighbours are a group.
func (s redisBus) concerns(server int, topic string) bool {
	s.tb.Helper()
	at, name := s.channel(topic)
	if !s.isSharded(topic) {
		return at == server
	}
	slot, err := s.admin()[at].ClusterKeySlot(s.tb.Context(), name).Result()
	if err != nil {
		s.tb.Fatal(err)
	}
	const slots, group = 16384, 1024
	for tag := int(slot)/group*group + 32; tag < int(slot)/group*group+group; tag += 64 {
		if tag*len(s.redis)/slots == server {
			return true
		}
	}
	return false
}

// isSharded reports whether a topic is on sharded Pub/Sub.
func (s redisBus) isSharded(topic string) bool {
	return s.kind == sharded && strings.HasPrefix(topic, "cc:r:")
}

// subscribed is the name of a topic at a Redis that has subscribers of it. A sharded one ends with a tag.
func (s redisBus) subscribed(rdb *redis.Client, topic string) (name string) {
	s.tb.Helper()
	ctx := s.tb.Context()
	if s.isSharded(topic) {
		if list, err := rdb.PubSubShardChannels(ctx, topic+"{*}").Result(); err == nil && len(list) > 0 {
			return list[0]
		}
		return ""
	}
	if n, err := rdb.PubSubNumSub(ctx, topic).Result(); err == nil && n[topic] > 0 {
		return topic
	}
	return ""
}

// anchor is which of a cluster's servers is the master of the nodes' prefix, where everyone's topic is.
func (s redisBus) anchor() int {
	s.tb.Helper()
	master, err := s.cluster.Client().MasterForKey(s.tb.Context(), "cc")
	if err != nil {
		s.tb.Fatal(err)
	}
	return slices.IndexFunc(s.redis, func(r *redistest.Server) bool { return r.Addr() == master.Options().Addr })
}

func (s redisBus) publish(topic string, all [][]byte) {
	s.tb.Helper()
	at, name := s.channel(topic)
	rdb := s.admin()[at]
	for len(all) > 0 {
		n := min(len(all), 500)
		if _, err := rdb.Pipelined(s.tb.Context(), func(p redis.Pipeliner) error {
			for _, data := range all[:n] {
				if s.isSharded(topic) {
					p.SPublish(s.tb.Context(), name, data)
				} else {
					p.Publish(s.tb.Context(), name, data)
				}
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
	at, name := s.channel(topic)
	subscribe := s.admin()[at].Subscribe
	if s.isSharded(topic) {
		subscribe = s.admin()[at].SSubscribe
	}
	ps := subscribe(s.tb.Context(), name)
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
		list := admin.PubSubChannels
		if s.kind == sharded {
			list = admin.PubSubShardChannels
		}
		rooms, err := list(s.tb.Context(), "cc:r:*").Result()
		if err != nil {
			s.tb.Fatal(err)
		}
		n += len(rooms)
	}
	return n
}

func (s redisBus) subscribers() (addrs []string) {
	s.tb.Helper()
	for _, admin := range s.admin() {
		for _, c := range s.clients(admin, "type", "pubsub") {
			addrs = append(addrs, c["addr"])
		}
	}
	return addrs
}

// subscribersOf is subscribers, of those that can have a topic's messages.
func (s redisBus) subscribersOf(topic string) (addrs []string) {
	s.tb.Helper()
	for _, c := range s.clients(s.admin()[s.carrying(topic)], "type", "pubsub") {
		if s.isSharded(topic) == (c["ssub"] != "0") {
			addrs = append(addrs, c["addr"])
		}
	}
	return addrs
}

// clients are the connections of a Redis, as CLIENT LIST has them.
func (s redisBus) clients(admin *redis.Client, of ...any) (all []map[string]string) {
	s.tb.Helper()
	list, err := admin.Do(s.tb.Context(), append([]any{"client", "list"}, of...)...).Text()
	if err != nil {
		s.tb.Fatal(err)
	}
	for client := range strings.Lines(list) {
		fields := map[string]string{"ssub": "0"} // which old servers do not have
		for field := range strings.FieldsSeq(client) {
			key, value, _ := strings.Cut(field, "=")
			fields[key] = value
		}
		all = append(all, fields)
	}
	return all
}

func (s redisBus) end(addr string) (ended int) {
	for _, admin := range s.admin() {
		n, _ := admin.ClientKillByFilter(s.tb.Context(), "addr", addr).Result()
		ended += int(n)
	}
	return ended
}

// linked are the Redises in groups. In each, a node has a link.
func (s redisBus) linked() (groups [][]*redis.Client) {
	if s.kind == cluster { // at any master
		return [][]*redis.Client{s.admin()}
	}
	for _, admin := range s.admin() {
		groups = append(groups, []*redis.Client{admin})
	}
	return groups
}

func (s redisBus) endSubscribers() {
	s.tb.Helper()
	for _, admins := range s.linked() {
		redistest.KillConnections(s.tb, "pubsub", admins...)
	}
}

func (s redisBus) endOthers() {
	s.tb.Helper()
	for _, admin := range s.admin() {
		redistest.KillConnections(s.tb, "normal", admin)
	}
}

func (s redisBus) endOthersOf(ports map[string]bool) (ended int) {
	s.tb.Helper()
	for _, admin := range s.admin() {
		for _, c := range s.clients(admin) {
			if !ports[c["addr"]] || c["sub"] != "0" || c["ssub"] != "0" {
				continue
			}
			if n, _ := admin.ClientKillByFilter(s.tb.Context(), "id", c["id"]).Result(); n > 0 { // else it is gone already
				ended++
			}
		}
	}
	return ended
}
