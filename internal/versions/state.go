package versions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/helm-state-metrics/helm-state-metrics/internal/chartrepo"
)

// maxState bounds the state file, in bytes. The answer of a large repository takes a megabyte.
const maxState = 256 << 20

// place is where an answer comes from, whatever name the repository has.
type place struct {
	URL   string `json:"url"`             // its hash, since a URL may have a password
	Chart string `json:"chart,omitempty"` // in an OCI repository
}

func placeOf(url, chart string) place {
	sum := sha256.Sum256([]byte(url))
	return place{hex.EncodeToString(sum[:]), chart}
}

// saved is an answer in the state file.
type saved struct {
	place
	Answer *chartrepo.Answer `json:"answer"`
}

// loadState reads the answers of a state file, none if there is no such file.
func loadState(path string) (map[place]*chartrepo.Answer, error) {
	answers := make(map[place]*chartrepo.Answer)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return answers, nil
	}
	if err != nil {
		return answers, err
	}
	if info.Size() > maxState {
		return answers, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxState)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return answers, err
	}
	var all []saved
	if err := json.Unmarshal(text, &all); err != nil {
		return answers, fmt.Errorf("%s: %w", path, err)
	}
	for _, k := range all {
		if k.Answer != nil {
			answers[k.place] = k.Answer
		}
	}
	return answers, nil
}

// saveState replaces a state file. Whoever reads it sees the old or the new one.
func saveState(path string, answers map[place]*chartrepo.Answer) (err error) {
	all := make([]saved, 0, len(answers))
	for at, answer := range answers {
		all = append(all, saved{at, answer})
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the first error tells more
		}
	}()
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
