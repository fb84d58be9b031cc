"""What people and programs use Atelier with. Nothing here needs the server's parts."""
