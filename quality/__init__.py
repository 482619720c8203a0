"""What is checked and what follows from it: gates now, Deequ suites later. Imports engagement, never the assets."""
