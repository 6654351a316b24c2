package web

// Pages are what is served for people.
var Pages = pagesRoutes

// IsOpen is how the server decides whether to warn of the address of the pages.
var IsOpen = isOpen
