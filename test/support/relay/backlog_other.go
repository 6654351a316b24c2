//go:build !unix

package relay

import "errors"

func setBacklog(uintptr, int) error { return errors.ErrUnsupported }
