package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// undefined is JavaScript's value of that name, in the arguments that a test gives to a Node.js process. Other
// values are nil, bool, float64, string, []byte, time.Time (a Date), []any and map[string]any.
type undefined struct{}

// encodeValue makes JSON's values of v; control.mjs has the counterpart.
func encodeValue(v any) any {
	switch v := v.(type) {
	case undefined:
		return map[string]any{"$undef": 1}
	case []byte:
		return map[string]any{"$bin": base64.StdEncoding.EncodeToString(v)}
	case time.Time:
		return map[string]any{"$date": v.UnixMilli()}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return map[string]any{"$num": jsNumber(v)}
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = encodeValue(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = encodeValue(v[key])
		}
		return out
	}
	return v
}

// jsNumber is what JavaScript calls a number that JSON lacks.
func jsNumber(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(v, 'g', -1, 64) // "NaN"
}

func decodeValue(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = decodeValue(v[i])
		}
	case map[string]any:
		if special, ok := decodeSpecial(v); ok {
			return special
		}
		for key := range v {
			v[key] = decodeValue(v[key])
		}
	}
	return v
}

func decodeSpecial(v map[string]any) (any, bool) {
	if len(v) != 1 {
		return nil, false
	}
	for key, value := range v {
		text, _ := value.(string)
		switch key {
		case "$undef":
			return undefined{}, true
		case "$bin":
			b, err := base64.StdEncoding.DecodeString(text)
			return b, err == nil
		case "$date":
			ms, ok := value.(float64)
			return time.UnixMilli(int64(ms)).UTC(), ok
		case "$num":
			f, err := strconv.ParseFloat(text, 64)
			return f, err == nil
		}
	}
	return nil, false
}

func decodeValues(text json.RawMessage) ([]any, error) {
	var v []any
	err := json.Unmarshal(text, &v)
	decodeValue(v)
	return v, err
}

// show is a value in a test's message, of bounded length.
func show(v any) string {
	text, err := json.Marshal(encodeValue(v))
	if err != nil {
		return fmt.Sprintf("%#v", v)
	}
	if len(text) > 300 {
		return fmt.Sprintf("%s… (%d bytes)", text[:300], len(text))
	}
	return string(text)
}
