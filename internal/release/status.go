package release

// Status is a revision's status, in Helm's words. It may hold a word that
// Helm does not know: labels can be edited by hand.
type Status string

// The statuses of Helm 3 and Helm 4.
const (
	Unknown         Status = "unknown"
	Deployed        Status = "deployed"
	Uninstalled     Status = "uninstalled"
	Superseded      Status = "superseded"
	Failed          Status = "failed"
	Uninstalling    Status = "uninstalling"
	PendingInstall  Status = "pending-install"
	PendingUpgrade  Status = "pending-upgrade"
	PendingRollback Status = "pending-rollback"
)

// Statuses returns every status, in alphabetical order.
func Statuses() []Status {
	return []Status{
		Deployed, Failed, PendingInstall, PendingRollback, PendingUpgrade,
		Superseded, Uninstalled, Uninstalling, Unknown,
	}
}
