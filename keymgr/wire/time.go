package wire

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Time is a point in time as AWS JSON has it: a number of seconds since 1970, with milliseconds. aws-sdk-go-v2 takes nothing else.
type Time struct{ time.Time }

// MarshalJSON writes the number.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(t.UnixMilli())/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads a number; null is the zero Time.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > 1e11 {
		return fmt.Errorf("timestamp %.32q", b)
	}
	t.Time = time.UnixMilli(int64(math.Round(f * 1000))).UTC()
	return nil
}
