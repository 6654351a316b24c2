package decode_test

import "time"

// helmRelease is what Helm unmarshals a payload into.
type helmRelease struct {
	Name      string         `json:"name,omitempty"`
	Info      *helmInfo      `json:"info,omitempty"`
	Chart     *helmChart     `json:"chart,omitempty"`
	Config    map[string]any `json:"config,omitempty"`
	Manifest  string         `json:"manifest,omitempty"`
	Hooks     []helmHook     `json:"hooks,omitempty"`
	Version   int            `json:"version,omitempty"`
	Namespace string         `json:"namespace,omitempty"`
}

type helmInfo struct {
	FirstDeployed helmTime `json:"first_deployed,omitempty"`
	LastDeployed  helmTime `json:"last_deployed,omitempty"`
	Deleted       helmTime `json:"deleted"`
	Description   string   `json:"description,omitempty"`
	Status        string   `json:"status,omitempty"`
	Rollback      int      `json:"rollback_revision,omitempty"`
	Notes         string   `json:"notes,omitempty"`
}

// helmTime is Helm 3's time: none is the empty string.
type helmTime struct{ time.Time }

func (t *helmTime) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		return nil
	}
	return t.Time.UnmarshalJSON(b)
}

func (t helmTime) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte(`""`), nil
	}
	return t.Time.MarshalJSON()
}

type helmChart struct {
	Metadata  *helmMetadata  `json:"metadata"`
	Lock      any            `json:"lock"`
	Templates []helmFile     `json:"templates"`
	Values    map[string]any `json:"values"`
	Schema    []byte         `json:"schema"`
	Files     []helmFile     `json:"files"`
}

type helmFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

type helmMetadata struct {
	Name         string            `json:"name,omitempty"`
	Home         string            `json:"home,omitempty"`
	Sources      []string          `json:"sources,omitempty"`
	Version      string            `json:"version,omitempty"`
	Description  string            `json:"description,omitempty"`
	Keywords     []string          `json:"keywords,omitempty"`
	Maintainers  []helmMaintainer  `json:"maintainers,omitempty"`
	Icon         string            `json:"icon,omitempty"`
	APIVersion   string            `json:"apiVersion,omitempty"`
	Condition    string            `json:"condition,omitempty"`
	Tags         string            `json:"tags,omitempty"`
	AppVersion   string            `json:"appVersion,omitempty"`
	Deprecated   bool              `json:"deprecated,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	KubeVersion  string            `json:"kubeVersion,omitempty"`
	Dependencies []helmDependency  `json:"dependencies,omitempty"`
	Type         string            `json:"type,omitempty"`
}

type helmMaintainer struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	URL   string `json:"url,omitempty"`
}

type helmDependency struct {
	Name       string `json:"name"`
	Version    string `json:"version,omitempty"`
	Repository string `json:"repository"`
	Condition  string `json:"condition,omitempty"`
}

type helmHook struct {
	Name     string `json:"name,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Manifest string `json:"manifest,omitempty"`
}
