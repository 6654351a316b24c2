package web

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

// The reasons of errors, which programs may rely on.
const (
	reasonInvalid  = "invalid"
	reasonNotFound = "not_found"
	reasonNotReady = "not_ready"
	reasonMethod   = "method_not_allowed"
)

// apiRelease is a release in the API. docs/pages.md documents the fields, which
// may be added to but never removed.
type apiRelease struct {
	Namespace        string         `json:"namespace"`
	Name             string         `json:"name"`
	Status           release.Status `json:"status"`
	Revision         int            `json:"revision"`
	DeployedRevision int            `json:"deployedRevision,omitempty"`
	Created          time.Time      `json:"created"`
	Modified         time.Time      `json:"modified,omitzero"`
	Head             headState      `json:"head"`
	HeadProblem      string         `json:"headProblem,omitempty"`
	Chart            string         `json:"chart,omitempty"`
	ChartVersion     string         `json:"chartVersion,omitempty"`
	AppVersion       string         `json:"appVersion,omitempty"`
	Deprecated       bool           `json:"deprecated,omitempty"`
	FirstDeployed    time.Time      `json:"firstDeployed,omitzero"`
	LastDeployed     time.Time      `json:"lastDeployed,omitzero"`
	Description      string         `json:"description,omitempty"`
	PayloadBytes     int            `json:"payloadBytes,omitempty"`
}

// apiDetail is what the API of one release has in addition.
type apiDetail struct {
	apiRelease
	HeadRead time.Time `json:"headRead,omitzero"`
	// ModifiedSinceRead says that the description may be out of date.
	ModifiedSinceRead bool `json:"modifiedSinceRead,omitempty"`
	// HeadError is the last error of reading a head that is pending or out of
	// date.
	HeadError   string        `json:"headError,omitempty"`
	HeadErrorAt time.Time     `json:"headErrorAt,omitzero"`
	Revisions   []apiRevision `json:"revisions"`
	Notes       []string      `json:"notes"`
}

type apiRevision struct {
	Revision int             `json:"revision"`
	Status   release.Status  `json:"status"`
	Storage  release.Storage `json:"storage"`
	Object   string          `json:"object"`
	Created  time.Time       `json:"created"`
	Modified time.Time       `json:"modified,omitzero"`
}

type apiError struct {
	Error  string `json:"error"`
	Reason string `json:"reason"`
}

func toAPI(r *release.Release, reads bool) apiRelease {
	a := apiRelease{
		Namespace: r.Namespace, Name: r.Name, Status: r.Newest.Status,
		Revision: r.Newest.Number, DeployedRevision: r.Deployed,
		Created: jsonTime(r.Newest.Created.Time()), Modified: jsonTime(r.Newest.Modified.Time()),
		Head: stateOfHead(r, reads), HeadProblem: payload(r).Problem, PayloadBytes: payload(r).Bytes,
	}
	if h, ok := r.Head(); ok {
		chart, _ := r.Chart()
		a.Chart, a.ChartVersion, a.AppVersion, a.Deprecated = chart.Name, chart.Version, chart.AppVersion, chart.Deprecated
		a.FirstDeployed, a.LastDeployed, a.Description = jsonTime(h.FirstDeployed), jsonTime(h.LastDeployed), h.Description
	}
	return a
}

// jsonTime leaves out a time that JSON cannot express: anybody can write one into a
// record, and it must not break the response about all others.
func jsonTime(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return t
}

func writeError(w http.ResponseWriter, status int, reason string, err error) {
	writeJSON(w, status, apiError{Error: err.Error(), Reason: reason})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // it fails if the client has gone away
}
