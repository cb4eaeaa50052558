package sse

// IsRegistered reports whether the stream of a token is kept.
func IsRegistered(token string) bool {
	_, d, _ := parseToken(token)
	streams.RLock()
	defer streams.RUnlock()
	return streams.m[d.Stream] != nil
}
