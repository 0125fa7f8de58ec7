"""What a library user calls, one thin layer above a run; reached through the package itself: `import mixmo_fast`."""
