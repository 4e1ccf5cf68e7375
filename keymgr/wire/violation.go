package wire

// ReportViolationRequest is the input of ReportViolation. There is no output.
type ReportViolationRequest struct {
	VolumeId string `json:",omitempty"` // empty if what says it was lost with the rest
	Path     string // absolute; of the volume's directory
	Code     string // what kind of finding it is
	Message  string // what was found
}

// Bounds of a ReportViolationRequest, in bytes.
const (
	MaxViolationPath    = 4096
	MaxViolationCode    = 64
	MaxViolationMessage = 2048
)
