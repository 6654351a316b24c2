package web

// Routes are what a server serves.
var Routes = routes
